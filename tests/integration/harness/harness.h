// All that an integration test needs, in the order in which it is used: a PostgreSQL, Carpool
// before it, clients by libpq or by hand, and a way to wait.
#pragma once

#include "harness/carpool.h"
#include "harness/connection.h"
#include "harness/eventually.h"
#include "harness/postgres.h"
#include "harness/process.h"
#include "harness/wire.h"

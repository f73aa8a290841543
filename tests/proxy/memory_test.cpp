// The container's memory limit: newcomers are refused before it is reached, and those closed that
// hold most, so that the kernel need not kill everybody.
#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "fixture.h"
#include "proxy/memory_guard.h"

namespace carpool::proxy {
namespace {

// A cgroup as the kernel shows it, in a folder.
class Cgroup {
 public:
  Cgroup() {
    std::string name = (std::filesystem::temp_directory_path() / "carpool-cgroup-XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    folder_ = name;
  }
  ~Cgroup() { std::filesystem::remove_all(folder_); }

  void write(const std::string& file, const std::string& text) {
    const std::filesystem::path path = folder_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void v2(std::uint64_t used_mib, const std::string& limit = std::to_string(100 * kMiB)) {
    write("memory.max", limit + "\n");
    write("memory.current", std::to_string(used_mib * kMiB) + "\n");
    write("memory.stat", "anon 5\nfile 7\ninactive_file 0\nactive_file 0\n");
  }
  std::string path() const { return folder_.string(); }
  std::string membership() const { return (folder_ / "membership").string(); }

 private:
  std::filesystem::path folder_;
};

TEST(MemoryGuard, SaysTightAtFourFifthsAndCriticalAtNineTenths) {
  Cgroup cgroup;
  cgroup.v2(79);
  MemoryGuard guard(cgroup.path(), cgroup.membership());
  EXPECT_EQ(guard.limit_bytes(), 100 * kMiB);
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Fine);
  cgroup.v2(81);
  guard.look();
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Tight);
  cgroup.v2(91);
  guard.look();
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Critical);
  EXPECT_NEAR(static_cast<double>(guard.excess_bytes()), 11.0 * kMiB, 100);
  guard.relieved();
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Tight);
}

TEST(MemoryGuard, AsksAgainOnlyWhenAMegabyteHasPassed) {
  Cgroup cgroup;
  cgroup.v2(10);
  MemoryGuard guard(cgroup.path(), cgroup.membership());
  cgroup.v2(95);
  guard.passed(kMiB - 1);
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Fine);
  guard.passed(1);
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Critical);
}

TEST(MemoryGuard, DoesNotCountFilePagesWhichTheKernelDropsFirst) {
  Cgroup cgroup;
  cgroup.v2(95);
  cgroup.write("memory.stat", "file 90\ninactive_file " + std::to_string(10 * kMiB) +
                                  "\nactive_file " + std::to_string(15 * kMiB) +
                                  "\nunevictable 0\n");
  MemoryGuard guard(cgroup.path(), cgroup.membership());
  EXPECT_EQ(guard.used_bytes(), 70 * kMiB);
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Fine);
}

TEST(MemoryGuard, ReadsTheFirstVersionOfCgroupsToo) {
  Cgroup cgroup;
  cgroup.write("memory/memory.limit_in_bytes", std::to_string(64 * kMiB) + "\n");
  cgroup.write("memory/memory.usage_in_bytes", std::to_string(60 * kMiB) + "\n");
  cgroup.write("memory/memory.stat",
               "cache 1\ninactive_file 9\ntotal_inactive_file 4194304\n"
               "total_active_file 4194304\n");
  MemoryGuard guard(cgroup.path(), cgroup.membership());
  EXPECT_EQ(guard.limit_bytes(), 64 * kMiB);
  EXPECT_EQ(guard.used_bytes(), 52 * kMiB);
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Tight);
}

TEST(MemoryGuard, FindsItsOwnCgroupBelowTheMount) {
  Cgroup cgroup;
  cgroup.write("membership", "4:memory,hugetlb:/pods/mine\n1:cpu:/elsewhere\n0::/pods/mine\n");
  cgroup.write("pods/mine/memory.max", "1000\n");
  cgroup.write("pods/mine/memory.current", "10\n");
  cgroup.write("pods/mine/memory.stat", "");
  EXPECT_EQ(MemoryGuard(cgroup.path(), cgroup.membership()).limit_bytes(), 1000u);
  std::filesystem::remove_all(cgroup.path() + "/pods");
  cgroup.write("memory/pods/mine/memory.limit_in_bytes", "2000\n");
  cgroup.write("memory/pods/mine/memory.usage_in_bytes", "10\n");
  EXPECT_EQ(MemoryGuard(cgroup.path(), cgroup.membership()).limit_bytes(), 2000u);
}

TEST(MemoryGuard, IsAtEaseWithoutALimit) {
  Cgroup cgroup;
  EXPECT_FALSE(MemoryGuard(cgroup.path(), cgroup.membership()).limited());
  cgroup.v2(95, "max");
  EXPECT_FALSE(MemoryGuard(cgroup.path(), cgroup.membership()).limited());
  std::filesystem::remove(cgroup.path() + "/memory.max");
  cgroup.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  cgroup.write("memory/memory.usage_in_bytes", "1000\n");
  MemoryGuard guard(cgroup.path(), cgroup.membership());
  EXPECT_FALSE(guard.limited());
  EXPECT_EQ(guard.level(), MemoryGuard::Level::Fine);
}

class Memory : public ProxyTest {
 protected:
  Memory() {
    cgroup_.v2(10);
    cgroups_ = cgroup_.path();
  }
  std::uint64_t refused() {
    return proxy_->snapshot(false)
        .clients_rejected[static_cast<std::size_t>(pool::RejectReason::Memory)];
  }
  Cgroup cgroup_;
};

TEST_F(Memory, NewcomersAreRefusedWhenItIsTightAndTheOthersStay) {
  serve();
  TestClient& old = client();
  cgroup_.v2(85);
  ASSERT_TRUE(until([&] { return proxy_->memory().level() == MemoryGuard::Level::Tight; }));
  TestClient& newcomer = connect().start();
  ASSERT_TRUE(until([&] { return newcomer.ended; }));
  EXPECT_EQ(newcomer.sqlstate(), "53300");
  EXPECT_EQ(refused(), 1u);
  old.query("SELECT 1");
  EXPECT_TRUE(until([&] { return old.types == "CZ"; })) << old.types;
  cgroup_.v2(10);
  ASSERT_TRUE(until([&] { return proxy_->memory().level() == MemoryGuard::Level::Fine; }));
  expect_still_serving();
}

TEST_F(Memory, ThoseThatHoldMostAreClosedWhenItIsCritical) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  TestClient& busy = client();
  busy.query("SELECT 1");
  ASSERT_TRUE(until([&] { return clients(pool::ClientState::Attached) == 1; }));
  TestClient& idle = client();
  TestClient& heavy = client();
  heavy.query("SELECT '" + std::string(300'000, 'x') + "'");
  ASSERT_TRUE(until([&] { return clients(pool::ClientState::Waiting) == 1; }));
  cgroup_.v2(95);
  ASSERT_TRUE(until([&] { return heavy.ended; }));
  EXPECT_EQ(heavy.sqlstate(), "53200");
  EXPECT_EQ(refused(), 1u);
  settle();
  EXPECT_FALSE(busy.ended);
  EXPECT_FALSE(idle.ended);
  cgroup_.v2(10);
  ASSERT_TRUE(until([&] { return proxy_->memory().level() == MemoryGuard::Level::Fine; }));
  postgres_.backends[0]->complete("SELECT 1");
  postgres_.backends[0]->ready('I');
  EXPECT_TRUE(until([&] { return busy.types == "CZ"; })) << busy.types;
  expect_still_serving();
}

TEST_F(Memory, StatementsOfAPoolTakeAtMostAQuarterOfIt) {
  cgroup_.v2(0, std::to_string(kMiB));
  serve();
  EXPECT_EQ(proxy_->statement_bytes_max(), kMiB / 4);
}

}  // namespace
}  // namespace carpool::proxy

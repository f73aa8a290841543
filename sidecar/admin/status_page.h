// The status page at `/`, from the binary: a document, a style sheet and a script, all static.
// Nothing is asked of any other host, and the policy below lets the browser ask nobody else.
#pragma once

#include <string_view>

namespace carpool::admin {

std::string_view status_page_html();
std::string_view status_page_css();
std::string_view status_page_js();

// The Content-Security-Policy of every answer: own style, own script, own data, nothing else. The
// page uses no inline script, style or handler, so no hash and no nonce is needed.
inline constexpr const char* kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace carpool::admin

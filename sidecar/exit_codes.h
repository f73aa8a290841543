// How `carpool run` ends. docs/kubernetes.md tells them to people.
#pragma once

namespace carpool {

inline constexpr int kExitClean = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitCut = 3;      // transactions, at the end of a drain
inline constexpr int kExitConfig = 78;  // the configuration, or a file that it names (EX_CONFIG)

}  // namespace carpool

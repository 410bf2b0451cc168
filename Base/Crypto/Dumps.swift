internal import COpenSSL
internal import Glibc

/// Keeps the process's memory, which holds keys and clear headers, out of core dumps and away from
/// debuggers of the same user. Returns false when the kernel refused.
public func disableCoreDumps() -> Bool {
  var none = rlimit(rlim_cur: 0, rlim_max: 0)
  let limited = setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none) == 0
  return posthouse_not_dumpable() == 0 && limited
}

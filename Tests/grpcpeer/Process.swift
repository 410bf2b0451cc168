internal import Glibc

func exitNow(_ code: Int32) -> Never { exit(code) }
/// Every stream: `stdout` itself is a global that Swift 6 does not let us touch.
func flushOutput() { fflush(nil) }

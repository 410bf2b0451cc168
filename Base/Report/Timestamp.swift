public import Base
internal import CSys

/// RFC 3339 in UTC, without Foundation: log lines and audit entries are stamped on every thread.
public enum Timestamp {
  /// The wall clock now.
  public static func now() -> Instant { Instant(nanoseconds: sys_wall_ns()) }

  /// `2026-11-21T04:02:25.123Z`.
  public static func text(_ wall: Instant) -> String {
    let milliseconds = floorDivide(wall.nanoseconds, 1_000_000)
    let seconds = floorDivide(milliseconds, 1_000)
    let day = floorDivide(seconds, 86_400)
    let (year, month, date) = civil(day)
    let inDay = seconds - day * 86_400
    var out = ""
    out.reserveCapacity(24)
    pad(year, 4, &out)
    out += "-"
    pad(month, 2, &out)
    out += "-"
    pad(date, 2, &out)
    out += "T"
    pad(inDay / 3600, 2, &out)
    out += ":"
    pad(inDay / 60 % 60, 2, &out)
    out += ":"
    pad(inDay % 60, 2, &out)
    out += "."
    pad(milliseconds - seconds * 1_000, 3, &out)
    out += "Z"
    return out
  }

  private static func pad(_ value: Int64, _ width: Int, _ out: inout String) {
    let digits = String(value)
    for _ in digits.utf8.count..<max(width, digits.utf8.count) { out += "0" }
    out += digits
  }

  private static func floorDivide(_ a: Int64, _ b: Int64) -> Int64 {
    a >= 0 ? a / b : -((-a + b - 1) / b)
  }

  /// Year, month and day of a day number since 1970-01-01, in the proleptic Gregorian calendar:
  /// eras of 400 years that begin on March 1st, so that the leap day is the last of its year.
  private static func civil(_ day: Int64) -> (Int64, Int64, Int64) {
    let shifted = day + 719_468
    let era = floorDivide(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra =
      (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let marchMonth = (5 * dayOfYear + 2) / 153
    let date = dayOfYear - (153 * marchMonth + 2) / 5 + 1
    let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    return (year, month, date)
  }
}

import Base
import Loop
import Settings

/// Written forms that read back as the same value.
enum TextForms {
  static func check(_ text: String) throws(Finding) -> Bool {
    var accepted = false
    if let duration = SettingText.duration(text) {
      accepted = true
      let again = SettingText.duration(SettingText.text(duration))
      if again != duration { throw Finding("duration \(text)") }
    }
    if let size = SettingText.size(text) {
      accepted = true
      if SettingText.size(SettingText.sizeText(size)) != size { throw Finding("size \(text)") }
    }
    if let endpoint = Endpoint(text) {
      accepted = true
      // A combining mark in front joins the bracket that is written before it: no such host exists.
      let isAscii = text.utf8.allSatisfy { $0 < 0x80 }
      if isAscii, Endpoint(endpoint.description) != endpoint { throw Finding("endpoint \(text)") }
    }
    return accepted
  }
}

public import Base
public import Settings
import Tls

extension NodeHost {
  /// What `posthoused --check` looks at besides the settings: the certificates and keys they name. Nothing is opened
  /// that a running node uses.
  public static func checkCertificates(_ settings: NodeSettings) throws(Fault) {
    do {
      try Inheritance.checkCertificate(settings)
      if settings.federationAddress != nil, let files = settings.registry.tls {
        _ = try TlsServerContext(
          TlsFiles(
            certificate: files.certificate, key: files.key,
            clientAuthority: settings.registry.authority), protocols: [.h2])
      }
      if let cluster = settings.cluster {
        _ = try ClusterTlsContext(ClusterTlsContext.Files(directory: cluster.certDir))
      }
    } catch {
      throw Fault(.badSetting, "\(error)")
    }
  }
}

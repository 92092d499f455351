//! Files of certificates and keys: what people do wrong with them once is told with its cure.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tls::Acceptor;

fn refusal(folder: &Path, certificate: &[u8], key: &[u8]) -> String {
    let (certificate_path, key_path) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&certificate_path, certificate).unwrap();
    fs::write(&key_path, key).unwrap();
    Acceptor::new(&certificate_path, &key_path).map_or_else(|error| error.to_string(), |_| "taken".into())
}

#[test]
fn each_mistake_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&own_key, &issuer).unwrap();
    let (own_pem, authority_pem, key_pem) = (own.pem(), issuer.pem(), own_key.serialize_pem());
    let check = |certificate: &str, key: &str, expected: &str| {
        let told = refusal(folder.path(), certificate.as_bytes(), key.as_bytes());
        assert!(told.contains(expected), "{expected:?} in {told:?}");
    };
    check(&format!("{own_pem}{authority_pem}"), &key_pem, "taken");
    check(&format!("\u{feff}{own_pem}"), &format!("\u{feff}{key_pem}"), "taken");
    check(&format!("{authority_pem}{own_pem}"), &key_pem, "wrong order");
    check(&own_pem, &KeyPair::generate().unwrap().serialize_pem(), "is not this certificate's");
    check(&key_pem, &own_pem, "are the two files swapped?");
    check(&own_pem, &own_pem, "are the two files swapped?");
    check("", &key_pem, "no certificate in this file");
    check(&own_pem, "nothing", "no private key in this file");
    for encrypted in ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"] {
        check(&own_pem, encrypted, "openssl pkey -in");
    }
    let utf_16: Vec<u8> = [0xfeff].into_iter().chain(own_pem.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert!(refusal(folder.path(), &utf_16, key_pem.as_bytes()).contains("UTF-16"));
    assert!(refusal(folder.path(), own.der(), key_pem.as_bytes()).contains("DER"));
    let missing = Acceptor::new(&folder.path().join("none.pem"), &folder.path().join("key.pem")).unwrap_err();
    assert!(missing.to_string().ends_with("none.pem: it does not exist"), "{missing}");
}

#[test]
fn a_certificate_out_of_its_time_is_told_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let warning = |from: i32, to: i32| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let (certificate, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Acceptor::new(&certificate, &key_file).unwrap().warning().map(ToString::to_string)
    };
    assert_eq!(warning(2020, 4000), None);
    assert!(warning(2000, 2001).unwrap().contains("has expired"));
    assert!(warning(3000, 4000).unwrap().contains("not valid yet"));
}

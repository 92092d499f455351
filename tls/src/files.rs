//! Certificates and keys as files, and what people do wrong with them once: each mistake is told with its cure.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore, ServerConfig};

use crate::SetUpError;

/// The byte with which a certificate or key begins that is not PEM but its binary form.
const DER_SEQUENCE: u8 = 0x30;

/// The cryptography that both sides use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server's settings from its certificate's file and its key's.
///
/// # Errors
/// [`SetUpError`], with what is wrong and what to do.
pub(crate) fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, SetUpError> {
    let chain = read_certificates(certificate)?;
    let private = read_key(key)?;
    match configure(&chain, &private) {
        Ok(config) => Ok(config),
        Err(Error::InconsistentKeys(_)) => Err(mismatch(certificate, key, &chain, &private)),
        Err(error) => Err(SetUpError::new(certificate, error)),
    }
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// As [`server_config`].
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetUpError> {
    let pem = read_pem(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates
        .map_err(|error| SetUpError::new(path, format!("a certificate in this file is damaged: {error}")))?;
    match certificates.is_empty() {
        false => Ok(certificates),
        true if is_key(&pem) => {
            Err(SetUpError::new(path, "this file has a private key and no certificate: are the two files swapped?"))
        }
        true => Err(SetUpError::new(path, "there is no certificate in this file (BEGIN CERTIFICATE)")),
    }
}

/// Whether the certificate that is shown is outside its time: a sentence for the log. The clock may be what is wrong, so
/// that stops nobody.
pub(crate) fn out_of_time(path: &Path, chain: &[CertificateDer<'_>]) -> Option<String> {
    let (own, between) = chain.split_first()?;
    // Any authority will do: the time is looked at before the issuer.
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let words = match verifier.verify_server_cert(own, between, &name, &[], UnixTime::now()) {
        Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "the certificate has expired: clients will refuse it; put a new one there"
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            "the certificate is not valid yet: clients will refuse it; check this machine's clock"
        }
        Ok(_) | Err(_) => return None,
    };
    Some(format!("{}: {words}", path.display()))
}

fn configure(chain: &[CertificateDer<'static>], private: &PrivateKeyDer<'static>) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    builder.with_no_client_auth().with_single_cert(chain.to_vec(), private.clone_key())
}

/// The key is not the first certificate's: perhaps another's in the file, which then stands in the wrong place.
fn mismatch(
    certificate: &Path,
    key: &Path,
    chain: &[CertificateDer<'static>],
    private: &PrivateKeyDer<'static>,
) -> SetUpError {
    let fits = |own: &CertificateDer<'static>| configure(std::slice::from_ref(own), private).is_ok();
    if chain.iter().skip(1).any(fits) {
        return SetUpError::new(
            certificate,
            "the certificates are in the wrong order: the server's own comes first, then those between it and its authority",
        );
    }
    let key = key.display();
    SetUpError::new(
        certificate,
        format!("the key in {key} is not this certificate's: give the two that were made together"),
    )
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, SetUpError> {
    let pem = read_pem(path)?;
    if holds(&pem, "BEGIN ENCRYPTED PRIVATE KEY") || holds(&pem, "Proc-Type: 4,ENCRYPTED") {
        let cure = format!("openssl pkey -in {} -out plain.key", path.display());
        return Err(SetUpError::new(
            path,
            format!(
                "the private key is encrypted, and nobody could type its passphrase at a start: decrypt it ({cure})"
            ),
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        if is_key(&pem) {
            SetUpError::new(
                path,
                format!("the private key in this file is damaged or of a kind that is not known: {error}"),
            )
        } else if holds(&pem, "BEGIN CERTIFICATE") {
            SetUpError::new(path, "this file has a certificate and no private key: are the two files swapped?")
        } else {
            SetUpError::new(path, "there is no private key in this file (BEGIN PRIVATE KEY)")
        }
    })
}

/// The text of a PEM file, without the mark that some editors put before it.
fn read_pem(path: &Path) -> Result<Vec<u8>, SetUpError> {
    let bytes = fs::read(path).map_err(|error| SetUpError::new(path, protocol::io_words::IoWords(&error)))?;
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, text @ ..] => Ok(text.to_vec()),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Err(SetUpError::new(path, "this file is UTF-16: save it as UTF-8 or plain ASCII"))
        }
        [DER_SEQUENCE, ..] => Err(SetUpError::new(
            path,
            "this file is in the binary form (DER): make PEM of it, by openssl x509 -inform der or openssl pkey -inform der",
        )),
        _ => Ok(bytes),
    }
}

fn is_key(pem: &[u8]) -> bool {
    holds(pem, "PRIVATE KEY-----")
}

fn holds(pem: &[u8], words: &str) -> bool {
    pem.windows(words.len()).any(|window| window == words.as_bytes())
}

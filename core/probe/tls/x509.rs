//! Parser of certificates and of files with certificates and keys.

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::model::quantity;

/// The fields of a certificate that the judge needs.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a certificate")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Common name, or the whole subject.
    pub subject: String,
    /// Common name of the issuer, or its whole name.
    pub issuer: String,
    /// Host names and addresses it is valid for (subjectAltName; the common name does not count, RFC 9110 §4.3.4).
    pub names: Vec<String>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// Expiry.
    pub not_after: Timestamp,
    /// SHA-256 fingerprint, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of its public key (SPKI), in hexadecimal.
    pub key_sha256: String,
    /// `RSA`, `ECDSA`, `Ed25519`, or an object identifier.
    pub key_type: String,
    /// Length of the key in bits.
    pub key_bits: usize,
    /// It is signed with SHA-1 or MD5.
    pub weak_signature: bool,
    /// It is a CA certificate.
    pub is_ca: bool,
    /// Subject and issuer are equal.
    pub self_issued: bool,
    /// It names a URL of its issuer's certificate (Authority Information Access), like those of public authorities.
    pub tells_issuer: bool,
    /// Hash of the subject, and of the issuer, to match certificates with their issuers.
    pub subject_hash: String,
    /// See `subject_hash`.
    pub issuer_hash: String,
}

fn sha256(bytes: &[u8]) -> String {
    quantity::hex(&Sha256::digest(bytes))
}

/// Reads one certificate.
pub(super) fn facts(der: &[u8]) -> Result<Certificate, String> {
    let (_, c) = X509Certificate::from_der(der).map_err(|e| format!("not a certificate: {e}"))?;
    let name = |n: &x509_parser::x509::X509Name<'_>| {
        let common = n.iter_common_name().next().and_then(|c| c.as_str().ok()).map(str::to_owned);
        common.unwrap_or_else(|| n.to_string()).chars().take(120).collect::<String>()
    };
    let time = |t: &x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).unwrap_or(Timestamp::MAX);
    let mut names = Vec::new();
    let mut is_ca = false;
    let mut tells_issuer = false;
    for extension in c.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                names.extend(san.general_names.iter().take(1000).filter_map(|n| match n {
                    GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
                    GeneralName::IPAddress(bytes) => match bytes.len() {
                        4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
                        16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
                        _ => None,
                    },
                    _ => None,
                }));
            }
            ParsedExtension::BasicConstraints(b) => is_ca = b.ca,
            ParsedExtension::AuthorityInfoAccess(_) => tells_issuer = true,
            _ => {}
        }
    }
    let key = c.public_key();
    let (key_type, key_bits) = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => ("RSA".to_owned(), rsa.key_size()),
        Ok(PublicKey::EC(ec)) => ("ECDSA".to_owned(), ec.key_size()),
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => ("Ed25519".to_owned(), 256),
        _ => (key.algorithm.algorithm.to_id_string(), 0),
    };
    // sha1WithRSAEncryption, md5WithRSAEncryption, ecdsa-with-SHA1 (RFC 8017, RFC 5758)
    let signature = c.signature_algorithm.algorithm.to_id_string();
    let weak_signature = ["1.2.840.113549.1.1.5", "1.2.840.113549.1.1.4", "1.2.840.10045.4.1"].contains(&signature.as_str());
    Ok(Certificate {
        subject: name(c.subject()),
        issuer: name(c.issuer()),
        names,
        not_before: time(&c.validity().not_before),
        not_after: time(&c.validity().not_after),
        sha256: sha256(der),
        key_sha256: sha256(key.raw),
        key_type,
        key_bits,
        weak_signature,
        is_ca,
        self_issued: c.subject().as_raw() == c.issuer().as_raw(),
        tells_issuer,
        subject_hash: sha256(c.subject().as_raw()),
        issuer_hash: sha256(c.issuer().as_raw()),
    })
}

/// All certificates in a file: PEM blocks, ignoring other contents, or a single one in DER.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    if find(bytes, b"-----BEGIN").is_none() {
        return facts(bytes)
            .map(|_| vec![CertificateDer::from(bytes.to_vec())])
            .map_err(|_| "it holds neither PEM nor a certificate in DER".to_owned());
    }
    let mut all = Vec::new();
    for item in CertificateDer::pem_slice_iter(bytes) {
        match item {
            Ok(der) => all.push(der),
            Err(e) => return Err(format!("its PEM is damaged: {e}")),
        }
    }
    if all.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(all) }
}

/// Whether a file contains a private key. A malformed PEM block makes nginx reject the whole file; text between blocks does not.
pub(super) fn has_private_key(bytes: &[u8]) -> bool {
    find(bytes, b"PRIVATE KEY-----").is_some()
}

/// SHA-256 of the public key of a private key, in hexadecimal. The private key is not kept.
pub(super) fn public_of(bytes: &[u8]) -> Result<String, String> {
    if find(bytes, b"ENCRYPTED").is_some() {
        return Err("it is encrypted".to_owned());
    }
    let key = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => key,
        Err(_) => PrivateKeyDer::try_from(bytes.to_vec()).map_err(|_| "it holds no private key".to_owned())?,
    };
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| "opsctl does not support this type of key".to_owned())?;
    let public = key.public_key().ok_or("opsctl cannot derive the public key of this type of key")?;
    Ok(sha256(&public))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_certificate_files_are_rejected() {
        for (bytes, why) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (b"hello", "it holds neither PEM nor a certificate in DER"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "there is no certificate in it"),
        ] {
            assert_eq!(certificates(bytes).map(|c| c.len()), Err(why.to_owned()));
        }
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").is_err());
        assert!(facts(b"nonsense").is_err());
        assert_eq!(public_of(b"nonsense"), Err("it holds no private key".to_owned()));
    }
}

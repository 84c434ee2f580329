//! Mail over SMTP.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use lettre::address::AddressError;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message, SmtpTransport, Transport};
use opsctl_core::probe::blocking;
use opsctl_core::probe::io::trusted;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::servers::secret_file;

use super::DeliveryResult;
use crate::config::Destination;

/// Time limit of one SMTP step.
const SMTP_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit of a CA file, in bytes.
const MAX_CA_FILE: u64 = 16 << 20;

/// Sends one mail.
pub(super) fn send(
    destination: &Destination,
    subject: &str,
    text: &str,
    html: Option<&str>,
    ca_files: &[String],
) -> DeliveryResult {
    let message = match compose(destination, subject, text, html) {
        Ok(message) => message,
        Err(why) => return DeliveryResult::Never(why),
    };
    let Destination::Mail { host, port, .. } = destination else {
        return DeliveryResult::Never("not a mail destination".to_owned());
    };
    let addresses = match blocking::run_on_current_thread(|io| io.look_up(host, *port)) {
        Ok(addresses) => addresses,
        Err(e) => return DeliveryResult::Later(format!("resolving {host}: {e}")),
    };
    let mut result = DeliveryResult::Later(format!("{host} has no address"));
    for address in addresses {
        let transport = match transport(destination, address.ip(), ca_files) {
            Ok(transport) => transport,
            Err(why) => return DeliveryResult::Later(why),
        };
        result = match transport.send(&message) {
            Ok(_) => return DeliveryResult::Done,
            // 5xx of RFC 5321: permanent, no retry
            Err(e) if e.is_permanent() => return DeliveryResult::Never(e.to_string()),
            Err(e) if is_unconnected(&e) => DeliveryResult::Later(chain(&e)),
            // the server may have accepted the message: not sent to another address
            Err(e) => return DeliveryResult::Later(chain(&e)),
        };
    }
    result
}

/// Whether no connection was made: the next address of the server is tried. lettre has no method for this kind of error.
fn is_unconnected(error: &lettre::transport::smtp::Error) -> bool {
    error.to_string().starts_with("Connection error")
}

/// An error with its sources: the message of lettre names only the failed step.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut under = error.source();
    while let Some(e) = under {
        text = format!("{text}: {e}");
        under = e.source();
    }
    text
}

fn compose(destination: &Destination, subject: &str, text: &str, html: Option<&str>) -> Result<Message, String> {
    let Destination::Mail { to, from, .. } = destination else { return Err("not a mail destination".to_owned()) };
    let wrong = |e: AddressError| e.to_string();
    let from: Address = match from {
        Some(from) => from.parse().map_err(wrong)?,
        // other mail servers reject an address without a domain; the local mail server accepts it
        None => Address::new("opsctl", hostname()).or_else(|_| Address::new("opsctl", "localhost")).map_err(wrong)?,
    };
    let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    let mut builder = Message::builder().from(Mailbox::new(Some("opsctl".to_owned()), from)).subject(subject);
    for address in to {
        builder = builder.to(Mailbox::new(None, address.parse().map_err(wrong)?));
    }
    let plain = SinglePart::plain(text.to_owned());
    match html {
        Some(html) => builder.multipart(MultiPart::alternative().singlepart(plain).singlepart(SinglePart::html(html.to_owned()))),
        None => builder.singlepart(plain),
    }
    .map_err(|e| e.to_string())
}

/// The name of this host for EHLO and addresses, without characters that could inject SMTP commands.
fn hostname() -> String {
    let name = host::hostname();
    let valid = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !name.is_empty() && name.chars().all(valid) { name } else { "localhost".to_owned() }
}

/// A transport to one address of the server: lettre would resolve a name by the C library, which needs its libraries at run time.
fn transport(destination: &Destination, address: IpAddr, ca_files: &[String]) -> Result<SmtpTransport, String> {
    let Destination::Mail { tls, host, port, user, password_file, .. } = destination else {
        return Err("not a mail destination".to_owned());
    };
    let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let mut builder = SmtpTransport::builder_dangerous(address.to_string())
        .port(*port)
        .timeout(Some(SMTP_TIMEOUT))
        .hello_name(ClientId::Domain(hostname()))
        .tls(match (tls, user) {
            (true, _) => Tls::Wrapper(parameters(host, ca_files)?),
            // the local mail server usually has a self-signed certificate, and loopback traffic cannot be intercepted
            (false, None) if loopback => Tls::None,
            (false, None) => Tls::Opportunistic(parameters(host, ca_files)?),
            // a password is sent only over TLS
            (false, Some(_)) => Tls::Required(parameters(host, ca_files)?),
        });
    if let Some(user) = user {
        let redactor = opsctl_core::probe::Redactor::default();
        let password = match password_file {
            Some(path) => {
                let path = path.display().to_string();
                blocking::run_on_current_thread(|io| secret_file(io, &path, &redactor))?.reveal().to_owned()
            }
            None => String::new(),
        };
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.build())
}

fn parameters(host: &str, ca_files: &[String]) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
    // the same CAs as for webhooks
    for der in blocking::run_on_current_thread(|io| opsctl_core::probe::tls::authorities(io, &[])) {
        if let Ok(certificate) = Certificate::from_der(der.to_vec()) {
            builder = builder.add_root_certificate(certificate);
        }
    }
    for path in ca_files {
        let pem =
            trusted::read(Path::new(path), MAX_CA_FILE).map_err(|e| format!("reading {path} of [runbooks.tls] ca_files: {e}"))?;
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| format!("{path}: {e}"))?);
    }
    builder.build().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(from: Option<&str>) -> Destination {
        Destination::Mail {
            tls: false,
            host: "127.0.0.1".into(),
            port: 1,
            to: vec!["ops@example.org".into()],
            from: from.map(str::to_owned),
            user: None,
            password_file: None,
        }
    }

    #[test]
    fn subject_cannot_add_headers() {
        let mail = compose(&destination(Some("a@b.org")), "x\r\nBcc: evil@example.org", "text", Some("<p>text"));
        let text = mail.map(|m| String::from_utf8_lossy(&m.formatted()).into_owned()).unwrap_or_default();
        assert!(text.contains("Subject: x  Bcc: evil@example.org") && !text.contains("\nBcc:"), "{text}");
        assert!(text.contains("multipart/alternative"));
    }

    #[test]
    fn other_addresses_are_tried_only_without_a_connection() {
        let transport = transport(&destination(None), IpAddr::from([127, 0, 0, 1]), &[]);
        let error = transport.map(|t| t.test_connection());
        assert!(matches!(&error, Ok(Err(e)) if is_unconnected(e)), "{error:?}");
    }

    #[test]
    fn refused_connection_is_retried_later() {
        assert!(matches!(send(&destination(None), "s", "t", None, &[]), DeliveryResult::Later(why) if why.contains("refused")));
    }
}

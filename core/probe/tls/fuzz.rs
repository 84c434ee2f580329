//! Fuzz targets of certificates and of certbot's files.

use super::{renewal, requested_name, x509};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::bytes("x509", |bytes| {
        let _ = (x509::facts(bytes), x509::has_private_key(bytes), x509::public_of(bytes));
        for certificate in x509::certificates(bytes).unwrap_or_default() {
            drop(x509::facts(&certificate));
        }
    }),
    Target::text("certbot-files", |text| {
        drop((renewal::setting(text, "renew_hook"), renewal::lineage_of(text).is_some()));
        let _ = renewal::outcome(text, "example.org");
        drop(requested_name(text));
    }),
];

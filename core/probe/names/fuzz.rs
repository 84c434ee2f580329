//! Fuzz targets of names and name servers.

use hickory_proto::rr::RecordType;

use crate::fuzz::Target;
use crate::probe::io::dns::{Answer, question};
use crate::probe::io::resolv_conf::ResolvConf;
use crate::probe::io::resolve::name_sources;
use crate::probe::names::query::{Question, answer_to, encode};
use crate::probe::names::{answer, candidates, in_hosts, resolvers};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("resolv-conf", |text| {
        let conf = ResolvConf::parse(text);
        let _ = (conf.used(), conf.number("ndots"), conf.has("rotate"));
        // a recorded value has to be readable again
        let json = serde_json::to_string(&conf).unwrap_or_default();
        assert_eq!(serde_json::from_str::<ResolvConf>(&json).ok(), Some(conf), "{json}");
    }),
    Target::text("resolver-files", |text| {
        drop((resolvers::servers_in(text), name_sources(text), in_hosts(text, "db"), candidates(text, &["lan".to_owned()])));
    }),
    Target::bytes("dns-answer", |bytes| {
        drop((answer_to(&Question::Address("a.test".to_owned()), 1, bytes), Answer::read(bytes), answer(bytes)));
    }),
    Target::text("dns-question", |text| drop((encode(&Question::Address(text.to_owned())), question(1, text, RecordType::A)))),
];

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::certs::{authority, issue};
use super::identity::Identity;
use super::serve::TlsSource;
use super::wire::{open, random, seal};
use crate::config::shape::VantageTls;
use crate::control::serve::Source;
use crate::core::Refused;
use crate::model::Ballot;

/// Before any of these certificates runs out.
const NOW: i64 = 0;

fn identity(folder: &Path, name: &str, domain: &str) -> Identity {
    let written = issue(folder, &name.into(), &domain.into(), &["127.0.0.1".into()], 30).expect("issued");
    let files =
        VantageTls { ca_file: folder.join("ca.pem"), certificate_file: written.certificate, key_file: written.key };
    Identity::load(&files).expect("loaded")
}

fn ballot(vantage: &str, domain: &str) -> Ballot {
    Ballot {
        vantage: vantage.into(),
        domain: domain.into(),
        asker: "shop".into(),
        nonce: "n".into(),
        boot: "b".into(),
        sequence: 1,
        change: 0,
        waited_ms: 0,
        votes: Vec::new(),
    }
}

#[test]
fn a_ballot_is_only_its_vantages_own() {
    let folder = tempfile::tempdir().expect("a folder");
    authority(folder.path(), 30).expect("an authority");
    let eu = identity(folder.path(), "eu", "eu-central-1");
    let ap = identity(folder.path(), "ap", "ap-east-1");
    let (body, signature) = seal(&ballot("eu", "eu-central-1"), &eu).expect("sealed");
    let (eu_certificate, ap_certificate) = (eu.certificate(), ap.certificate());
    assert_eq!(open(&body, Some(&signature), Some(eu_certificate), NOW), Ok(ballot("eu", "eu-central-1")));
    let ended = open(&body, Some(&signature), Some(eu_certificate), eu.not_after + 1);
    assert_eq!(ended, Err(Refused::Expired), "on a connection that began before");
    let mut changed = body.clone();
    let place = changed.iter().position(|byte| *byte == b'1').expect("a 1");
    changed[place] = b'2';
    for (what, body, signature, certificate) in [
        ("another text", &changed, Some(signature.as_str()), Some(eu_certificate)),
        ("another key", &body, Some(signature.as_str()), Some(ap_certificate)),
        ("no signature", &body, None, Some(eu_certificate)),
        ("a signature of nothing", &body, Some("AAAA"), Some(eu_certificate)),
        ("no certificate", &body, Some(signature.as_str()), None),
        ("no certificate at all", &body, Some(signature.as_str()), Some(&b"x"[..])),
    ] {
        assert_eq!(open(body, signature, certificate, NOW), Err(Refused::Forged), "{what}");
    }
}

/// Whoever serves a connection reads, is told that there is none, and shuts it down.
#[tokio::test]
async fn a_handshake_that_failed_is_used_again_without_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    authority(folder.path(), 30).expect("an authority");
    let config = identity(folder.path(), "eu", "eu-central-1").server().expect("a server");
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let mut source = TlsSource { listener: Arc::clone(&listener), config: watch::channel(config).1 };
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let (mut connection, _) = source.accept().await.expect("accepted");
    assert!(connection.read_u8().await.is_err(), "that was no greeting");
    assert!(connection.read_u8().await.is_err() && connection.shutdown().await.is_err());
}

/// A reload must not put in the place of one that works what nobody would accept.
#[test]
fn only_a_certificate_of_now_and_of_its_authority_replaces_another() {
    let (folder, foreign) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    authority(folder.path(), 30).expect("an authority");
    authority(foreign.path(), 30).expect("an authority");
    let before = identity(folder.path(), "eu", "eu-central-1");
    let next = identity(folder.path(), "eu-2", "eu-central-1");
    let now = UnixTime::now();
    assert_eq!((before.replaces(&before, now), next.replaces(&before, now)), (Ok(false), Ok(true)));
    let past = UnixTime::since_unix_epoch(Duration::from_secs(next.not_after.unsigned_abs() + 1));
    let refused = next.replaces(&before, past).expect_err("it has run out");
    assert!(refused.reason.contains("no other vantage would accept it"), "{refused}");
    let written = issue(foreign.path(), &"eu".into(), &"eu-central-1".into(), &[], 30).expect("issued");
    let ca_file = folder.path().join("ca.pem");
    let files = VantageTls { ca_file, certificate_file: written.certificate, key_file: written.key };
    let other = Identity::load(&files).expect("it can be read");
    assert!(other.replaces(&before, now).is_err(), "of another authority");
}

#[test]
fn a_key_signs_in_no_other_name_and_no_other_domain() {
    let folder = tempfile::tempdir().expect("a folder");
    authority(folder.path(), 30).expect("an authority");
    let eu = identity(folder.path(), "eu", "eu-central-1");
    for (claims, why) in
        [(ballot("ap", "eu-central-1"), Refused::WrongVantage), (ballot("eu", "us-west-2"), Refused::WrongDomain)]
    {
        let (body, signature) = seal(&claims, &eu).expect("sealed");
        assert_eq!(open(&body, Some(&signature), Some(eu.certificate()), NOW), Err(why));
    }
}

#[test]
fn a_nonce_is_never_the_same() {
    let (one, other) = (random().expect("random"), random().expect("random"));
    assert_eq!((one.len(), other.len()), (32, 32));
    assert_ne!(one, other);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = authority(folder.path(), 30).expect("an authority");
    let eu = issue(folder.path(), &"eu".into(), &"d".into(), &[], 30).expect("issued");
    let files = VantageTls { ca_file: ca.certificate.clone(), certificate_file: eu.certificate, key_file: eu.key };
    assert!(Identity::load(&files).is_ok());
    let field = |files: VantageTls| Identity::load(&files).err().map(|error| error.field);
    assert_eq!(field(VantageTls { ca_file: "/no/such".into(), ..files.clone() }), Some("ca_file"));
    assert_eq!(field(VantageTls { certificate_file: ca.certificate, ..files.clone() }), Some("certificate_file"));
    assert_eq!(field(VantageTls { key_file: files.certificate_file.clone(), ..files }), Some("key_file"));
}

//! Ballots on the wire: JSON, with a signature over its bytes in a header.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::identity::{Identity, is_signed, named};
use crate::core::Refused;
use crate::model::Ballot;

/// Where a vantage is asked.
pub const PATH: &str = "/v1/votes";
/// The header of the signature.
pub const SIGNATURE: &str = "failoverd-signature";
/// The longest answer that is read, in bytes: a vote takes about 200.
pub const LONGEST: usize = 8 << 20;
/// The longest question, in bytes.
pub const LONGEST_QUESTION: usize = 4096;

/// What is signed: nothing else that this key may ever sign looks like it.
fn signed_text(body: &[u8]) -> Vec<u8> {
    [b"failoverd ballot v1\n".as_slice(), body].concat()
}

/// Random letters and digits: 128 bits. `None` where the system gives no randomness.
pub fn random() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A ballot's bytes and its signature.
pub fn seal(ballot: &Ballot, identity: &Identity) -> Option<(Vec<u8>, String)> {
    let body = serde_json::to_vec(ballot).ok()?;
    let signature = identity.sign(&signed_text(&body))?;
    Some((body, STANDARD.encode(signature)))
}

/// Opens an answer that came over a connection with this certificate, `now` in seconds since 1970. A connection
/// outlives the certificate with which it began: whether that still holds is looked at here.
///
/// # Errors
/// [`Refused`], where it is not signed by that certificate's key, the certificate has run out, it is not in its
/// name, or is no ballot.
pub fn open(body: &[u8], signature: Option<&str>, certificate: Option<&[u8]>, now: i64) -> Result<Ballot, Refused> {
    let certificate = certificate.ok_or(Refused::Forged)?;
    let signature = signature.and_then(|text| STANDARD.decode(text).ok()).ok_or(Refused::Forged)?;
    if !is_signed(certificate, &signed_text(body), &signature) {
        return Err(Refused::Forged);
    }
    let who = named(certificate).ok_or(Refused::Forged)?;
    if now > who.not_after {
        return Err(Refused::Expired);
    }
    let ballot: Ballot = serde_json::from_slice(body).map_err(|_| Refused::Malformed)?;
    if ballot.vantage != who.vantage {
        return Err(Refused::WrongVantage);
    }
    if ballot.domain != who.domain {
        return Err(Refused::WrongDomain);
    }
    Ok(ballot)
}

//! Signed links: a person says yes or no from a phone.
//!
//! A link is a credential of one person for one question: it names who answers, the incident, the plan's
//! hash, the epoch, and when it is over, and none of that can be changed. Looking at it changes nothing,
//! since programs look at links before people do; the answer is a form on the page.

mod page;
mod serve;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use self::serve::router;
use crate::model::{Epoch, IncidentId, Notice, PlanHash, WallTime};

/// The shortest key: an HMAC-SHA-256 is as strong as its key.
pub const SHORTEST_KEY: usize = 32;
/// No link of ours is longer.
const LONGEST: usize = 2048;

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who answers with it.
    pub person: String,
    /// To which question.
    pub incident: IncidentId,
    /// What would be carried out.
    pub plan_hash: PlanHash,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The last moment to answer.
    pub until: WallTime,
}

/// Why a link is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Worthless {
    /// It was not signed with our key, or was changed.
    #[error("it is no link of this daemon, or is not whole: copy all of it")]
    Forged,
    /// It is too late.
    #[error("its time is over: answer with `failoverd approve` or `failoverd deny`")]
    Expired,
}

/// Signs links and reads them again.
pub struct Signer {
    key: hmac::Key,
    url: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Signer {
    /// `url`: where people reach the pages, without a path.
    ///
    /// # Errors
    /// Where the key is too short.
    pub fn new(key: &str, url: &str) -> Result<Self, String> {
        if key.len() < SHORTEST_KEY {
            return Err(format!(
                "the key has {} characters, and needs at least {SHORTEST_KEY}: `openssl rand -hex 32` makes one",
                key.len()
            ));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Ok(Self { key, url: url.trim_end_matches('/').to_owned() })
    }

    /// The link by which this person answers what a notice asks; `None` where it asks nothing.
    pub fn link(&self, notice: &Notice, person: &str) -> Option<String> {
        let asked = notice.approval.clone()?;
        let claim = Claim {
            person: person.to_owned(),
            incident: notice.incident.clone()?,
            plan_hash: asked.plan_hash,
            epoch: asked.epoch,
            until: asked.until,
        };
        Some(format!("{}/answer/{}", self.url, self.sign(&claim)))
    }

    fn sign(&self, claim: &Claim) -> String {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claim).unwrap_or_default());
        let tag = hmac::sign(&self.key, body.as_bytes());
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// What a link says, if it is ours and in time.
    ///
    /// # Errors
    /// [`Worthless`].
    pub fn read(&self, token: &str, now: WallTime) -> Result<Claim, Worthless> {
        let (body, tag) = token.split_once('.').filter(|_| token.len() <= LONGEST).ok_or(Worthless::Forged)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| Worthless::Forged)?;
        // In constant time, and before anything of it is believed.
        hmac::verify(&self.key, body.as_bytes(), &tag).map_err(|_| Worthless::Forged)?;
        let claim = URL_SAFE_NO_PAD.decode(body).map_err(|_| Worthless::Forged)?;
        let claim: Claim = serde_json::from_slice(&claim).map_err(|_| Worthless::Forged)?;
        if now > claim.until { Err(Worthless::Expired) } else { Ok(claim) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AskedFor, Importance, NoticeKind};

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const UNTIL: WallTime = WallTime(1_785_381_164_000);

    fn notice() -> Notice {
        Notice {
            kind: NoticeKind::ApprovalAsked,
            importance: Importance::Page,
            at: WallTime(0),
            scenario: None,
            severity: None,
            incident: Some("INC-20260730-001".into()),
            run: None,
            subject: "approve?".into(),
            body: String::new(),
            routes: None,
            situation: None,
            approval: Some(AskedFor { plan_hash: PlanHash::from("abc"), epoch: Epoch(3), until: UNTIL }),
        }
    }

    fn token(signer: &Signer) -> String {
        let link = signer.link(&notice(), "alice").expect("a question");
        link.strip_prefix("https://answer.example/answer/").expect("under the url").to_owned()
    }

    #[test]
    fn a_link_says_who_answers_what_until_when_and_nothing_of_it_can_be_changed() {
        let signer = Signer::new(KEY, "https://answer.example/").expect("a key");
        let token = token(&signer);
        let claim = signer.read(&token, UNTIL).expect("ours");
        assert_eq!((claim.person.as_str(), claim.epoch), ("alice", Epoch(3)));
        assert_eq!(signer.read(&token, WallTime(UNTIL.0 + 1)), Err(Worthless::Expired));
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            // The last character of each half carries bits that mean nothing; what it says is the same.
            let read = signer.read(&changed, UNTIL);
            assert!(read.is_err() || read == Ok(claim.clone()), "place {place}");
        }
        let bob = Claim { person: "bob".into(), ..claim };
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&bob).expect("JSON"));
        let tag = token.split_once('.').expect("two halves").1;
        assert_eq!(signer.read(&format!("{body}.{tag}"), UNTIL), Err(Worthless::Forged), "another person");
    }

    #[test]
    fn a_link_of_another_key_is_no_link_and_neither_is_rubbish() {
        let signer = Signer::new(KEY, "https://answer.example").expect("a key");
        let other = Signer::new(&KEY.replace('0', "1"), "https://answer.example").expect("a key");
        assert_eq!(signer.read(&token(&other), UNTIL), Err(Worthless::Forged));
        for rubbish in ["", ".", "a.b", &"x".repeat(5000), "ä.ö"] {
            assert_eq!(signer.read(rubbish, UNTIL), Err(Worthless::Forged), "{rubbish:.20}");
        }
        assert!(Signer::new("short", "https://answer.example").is_err());
        assert_eq!(signer.link(&Notice { approval: None, ..notice() }, "alice"), None);
    }
}

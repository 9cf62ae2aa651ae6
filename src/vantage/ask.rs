//! Asks a witness for its votes, again and again: each answer waits at the witness for the next change of
//! a vote, so that a change is here one way after it was made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::tls::TlsInfo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::identity::{Identity, IdentityError};
use super::wire::{LONGEST, PATH, SIGNATURE, open, random};
use crate::clients::failure::causes;
use crate::core::Refused;
use crate::model::{Ballot, BallotRequest, Nonce, VantageId};

/// What an answer may take beyond the wait that was asked for.
const ROUND_TRIP: Duration = Duration::from_secs(2);
/// The first pause after a question that was not answered.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// From question to question at least, also where a witness always has news.
const SHORTEST: Duration = Duration::from_millis(10);

/// Whom to ask, and how.
#[derive(Clone)]
pub struct Witness {
    /// Its name.
    pub name: VantageId,
    /// `https://host:port`.
    pub url: Url,
    /// Who asks.
    pub asker: VantageId,
    /// A question waits for a change for so long: the votes on the answer are renewed at least so often.
    pub wait: Duration,
}

impl Witness {
    /// An answer that comes later than this is late.
    pub fn within(&self) -> Duration {
        self.wait + ROUND_TRIP
    }
}

/// What came of a question.
#[derive(Debug)]
pub struct Heard {
    /// Who was asked.
    pub witness: VantageId,
    /// What.
    pub nonce: Nonce,
    /// When.
    pub asked: Instant,
    /// The ballot, if it is the witness's own.
    pub answer: Result<Ballot, Unheard>,
    /// The certificate (DER) under which it came.
    pub certificate: Option<Vec<u8>>,
}

/// Why there is no ballot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// No answer came.
    #[error("{0}")]
    Silent(String),
    /// What came does not count.
    #[error("refused: {}", .0.as_str())]
    Refused(Refused),
}

/// A client for the questions of one vantage.
///
/// # Errors
/// Where certificate and key do not belong together.
pub fn client(identity: &Identity) -> Result<reqwest::Client, IdentityError> {
    let failed = |field| move |error: reqwest::Error| IdentityError { field, reason: error.to_string() };
    let own = reqwest::Identity::from_pem(&identity.pem).map_err(failed("key_file"))?;
    let authority = reqwest::Certificate::from_pem_bundle(&identity.ca_pem).map_err(failed("ca_file"))?;
    reqwest::Client::builder()
        .user_agent(concat!("failoverd/", env!("CARGO_PKG_VERSION")))
        .https_only(true)
        .identity(own)
        .tls_certs_only(authority)
        .tls_info(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(ROUND_TRIP)
        .pool_max_idle_per_host(1)
        .build()
        .map_err(failed("key_file"))
}

/// Asks until it is stopped, or nobody hears it any more.
pub async fn keep_asking(
    witness: Witness,
    client: Arc<reqwest::Client>,
    heard: mpsc::Sender<Heard>,
    stop: CancellationToken,
) {
    let (mut known, mut pause) = (None, FIRST_PAUSE);
    loop {
        let Some(nonce) = random().map(Nonce::new) else {
            tracing::error!("the system gives no randomness: the witnesses are not asked");
            return;
        };
        let asked = Instant::now();
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = ask(&witness, &client, &nonce, known) => answer,
        };
        let failed = answer.is_err();
        let (answer, certificate) = match answer {
            Ok((ballot, certificate)) => (Ok(ballot), certificate),
            Err(why) => (Err(why), None),
        };
        known = answer.as_ref().ok().map(|ballot| ballot.change);
        let told = Heard { witness: witness.name.clone(), nonce, asked, answer, certificate };
        if heard.send(told).await.is_err() {
            return;
        }
        let rest = if failed { pause } else { SHORTEST.saturating_sub(asked.elapsed()) };
        pause = if failed { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
    }
}

async fn ask(
    witness: &Witness,
    client: &reqwest::Client,
    nonce: &Nonce,
    known: Option<u64>,
) -> Result<(Ballot, Option<Vec<u8>>), Unheard> {
    let wait_ms = u64::try_from(witness.wait.as_millis()).unwrap_or(u64::MAX);
    let request = BallotRequest { asker: witness.asker.clone(), nonce: nonce.clone(), known, wait_ms };
    let mut url = witness.url.clone();
    url.set_path(PATH);
    let question = client.post(url).json(&request).send();
    let exchange = async {
        let silent = |error: reqwest::Error| Unheard::Silent(causes(&error.without_url()));
        let mut response = question.await.map_err(silent)?;
        if !response.status().is_success() {
            return Err(Unheard::Silent(format!("the status is {}", response.status().as_u16())));
        }
        let certificate =
            response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate).map(<[u8]>::to_vec);
        let signature = response.headers().get(SIGNATURE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if body.len() + chunk.len() > LONGEST {
                return Err(Unheard::Refused(Refused::Malformed));
            }
            body.extend_from_slice(&chunk);
        }
        let now = jiff::Timestamp::now().as_second();
        let opened = open(&body, signature.as_deref(), certificate.as_deref(), now);
        opened.map(|ballot| (ballot, certificate)).map_err(Unheard::Refused)
    };
    let late = |_| Unheard::Silent("no answer in time".into());
    tokio::time::timeout(witness.within(), exchange).await.map_err(late)?
}

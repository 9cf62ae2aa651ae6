//! Signed links: made where a notice leaves, so that no link lies in the outbox; answered by a server of
//! their own, so that what only looks stays without power.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::handle::Handle;
use super::renewal;
use super::start::StartError;
use crate::clients::tls;
use crate::config::shape::{File, LinksTls};
use crate::config::trust::Matter;
use crate::control::links::{Signer, router};
use crate::control::metrics::Metrics;
use crate::control::serve::{Bounds, TcpSource, serve};
use crate::model::Notice;
use crate::ports::Notifier;
use crate::vantage::serve::TlsSource;

/// Who signs, where the configuration wants links.
///
/// # Errors
/// Why the key cannot be used, and what to do.
pub(super) fn signer(file: &File) -> Result<Option<Arc<Signer>>, String> {
    let Some(links) = &file.links else { return Ok(None) };
    let key = links.key.read().map_err(|error| format!("links.key: {error}"))?;
    let signer = Signer::new(key.trim(), &links.url).map_err(|error| format!("links.key: {error}"))?;
    Ok(Some(Arc::new(signer)))
}

/// A route to one approver: what asks carries that person's link.
pub(super) struct Linked {
    pub(super) inner: Box<dyn Notifier>,
    pub(super) signer: Arc<Signer>,
    pub(super) person: String,
}

#[async_trait]
impl Notifier for Linked {
    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let Some(link) = self.signer.link(notice, &self.person) else { return self.inner.deliver(notice).await };
        let mut notice = notice.clone();
        notice.body = format!("Answer as {}: {link}\n{}", self.person, notice.body);
        self.inner.deliver(&notice).await
    }

    fn follows_incidents(&self) -> bool {
        self.inner.follows_incidents()
    }

    async fn warm(&self) {
        self.inner.warm().await;
    }
}

/// Serves the pages; what is sent into the channel signs from then on.
///
/// # Errors
/// [`StartError`], where it cannot listen or its certificate cannot be used.
pub(super) async fn start(
    (file, user): (&File, Option<u32>),
    handle: Handle,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<Option<watch::Sender<Arc<Signer>>>, StartError> {
    let Some(links) = &file.links else { return Ok(None) };
    let Some(signer) = signer(file).map_err(StartError::Configuration)? else { return Ok(None) };
    let (signers, signer) = watch::channel(signer);
    let clock = Clock::new();
    let router = router(Arc::new(handle), signer, metrics.clone(), Arc::new(move || clock.now().wall));
    let listener = tokio::net::TcpListener::bind(&links.listen).await;
    let listener = listener.map_err(|source| StartError::Listen {
        address: links.listen.clone(),
        what: "the pages of signed links",
        setting: "links.listen",
        source,
    })?;
    match &links.tls {
        Some(tls) => {
            let (shown, config) = watch::channel(server(tls).map_err(StartError::Configuration)?);
            tokio::spawn(stop.clone().run_until_cancelled_owned(keep_renewed(tls.clone(), user, shown)));
            let source = TlsSource { listener: Arc::new(listener), config };
            tokio::spawn(serve(source, router, Bounds::default(), stop.clone()))
        }
        None => tokio::spawn(serve(TcpSource(listener), router, Bounds::default(), stop.clone())),
    };
    Ok(Some(signers))
}

fn server(tls: &LinksTls) -> Result<Arc<rustls::ServerConfig>, String> {
    tls::server(&tls.certificate_file, &tls.key_file).map_err(|error| format!("links.tls.{error}"))
}

/// Shows the certificate that is on disk, whenever it is another one.
async fn keep_renewed(files: LinksTls, user: Option<u32>, shown: watch::Sender<Arc<rustls::ServerConfig>>) {
    let all = vec![(files.certificate_file.clone(), Matter::Decision), (files.key_file.clone(), Matter::Secret)];
    let (of_now, (wanted, mut renewals)) = (watch::channel(all), mpsc::channel::<renewal::Renewal>(1));
    let renewed = async {
        let mut is_first = true;
        while let Some(renewal) = renewals.recv().await {
            let config = server(&files).map(|config| shown.send_replace(config));
            // The first one is mostly that of the start.
            drop(renewal.send(config.map(|_| !std::mem::replace(&mut is_first, false))));
        }
    };
    tokio::join!(renewal::keep_looking(of_now.1, user, renewal::EVERY, wanted), renewed);
}

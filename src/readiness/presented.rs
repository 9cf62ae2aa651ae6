//! The certificates of other vantages, as they show them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;

use crate::model::VantageId;

/// The certificate under which each other vantage last answered. Its file is on that vantage's own host: what it
/// shows is all that is seen of it here, and where it has run out, nothing is seen any more. Clones share one memory.
#[derive(Clone, Debug, Default)]
pub struct Presented(Arc<Mutex<BTreeMap<VantageId, CertificateDer<'static>>>>);

impl Presented {
    /// A vantage has answered under this certificate (DER).
    pub fn note(&self, vantage: &VantageId, certificate: Vec<u8>) {
        self.change(|all| {
            // Several times a second, and nearly always the same.
            if all.get(vantage).is_none_or(|known| **known != *certificate) {
                all.insert(vantage.clone(), certificate.into());
            }
        });
    }

    /// Forgets those that are not asked any more.
    pub fn retain(&self, is_asked: impl Fn(&VantageId) -> bool) {
        self.change(|all| all.retain(|vantage, _| is_asked(vantage)));
    }

    /// Who has shown what.
    pub(super) fn all(&self) -> BTreeMap<VantageId, CertificateDer<'static>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<VantageId, CertificateDer<'static>>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

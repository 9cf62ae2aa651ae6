//! `failoverd certs`: an authority for the vantages, and their certificates.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::args::Certs;
use super::exit::{Exit, Failure, print, print_json};
use crate::config::suggest;
use crate::model::{FailureDomain, VantageId};
use crate::vantage::certs::{CertsError, Written, authority, issue};
use crate::vantage::identity::named;

/// `failoverd certs VERB`.
///
/// # Errors
/// [`Failure`], where a file cannot be written, is there already, or cannot be read.
pub fn certs(verb: &Certs, json: bool) -> Result<(), Failure> {
    match verb {
        Certs::Init { folder, days } => {
            let written = authority(folder, *days).map_err(failed)?;
            let text = "Keep its key away from every vantage: whoever has it can vote in any name.\n\
                        Next: failoverd certs issue NAME --domain DOMAIN --host HOST";
            told(&written, json, text)
        }
        Certs::Issue { name, domain, hosts, folder, days } => {
            plain("name", name)?;
            plain("domain", domain)?;
            let (vantage, domain) = (VantageId::from(name.as_str()), FailureDomain::from(domain.as_str()));
            let written = issue(folder, &vantage, &domain, hosts, *days).map_err(failed)?;
            let text = "Copy both, and ca.pem, to the machine of that vantage, where [vantage_tls] looks for them.";
            told(&written, json, text)
        }
        Certs::Show { file } => show(file, json),
    }
}

fn plain(what: &str, text: &str) -> Result<(), Failure> {
    if suggest::is_plain_name(text) {
        return Ok(());
    }
    let message = format!("{text:?} is not a {what}: use letters, digits, `.`, `_` and `-` only");
    Err(Failure::new(Exit::Usage, "certs", message))
}

fn failed(error: CertsError) -> Failure {
    Failure::new(Exit::Failed, "certs", error.to_string())
}

fn told(written: &Written, json: bool, text: &str) -> Result<(), Failure> {
    let (certificate, key) = (written.certificate.display().to_string(), written.key.display().to_string());
    if json {
        return print_json(&json!({ "certificate": certificate, "key": key }));
    }
    print(&format!("written: {certificate}\n         {key} (readable by you only)\n{text}\n"))
}

fn show(file: &Path, json: bool) -> Result<(), Failure> {
    let wrong = |why: String| Failure::new(Exit::Failed, "certs", format!("{}: {why}", file.display()));
    let der = CertificateDer::from_pem_file(file).map_err(|error| wrong(error.to_string()))?;
    let who = named(&der).ok_or_else(|| wrong("it is no vantage's certificate".into()))?;
    let now = jiff::Timestamp::now().as_second();
    let days = who.not_after.saturating_sub(now).div_euclid(24 * 3600);
    if json {
        return print_json(&json!({ "vantage": who.vantage, "domain": who.domain, "days_left": days }));
    }
    let left = if days < 0 { format!("ended {} days ago", -days) } else { format!("valid for {days} more days") };
    print(&format!("vantage {} in {}, {left}\n", who.vantage, who.domain))
}

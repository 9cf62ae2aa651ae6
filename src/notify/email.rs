//! Mail, through an SMTP server.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use sha2::{Digest, Sha256};

use super::lifecycle::kind;
use super::worded::worded;
use crate::clients::Redactor;
use crate::clients::failure::one_line;
use crate::config::shape::{EmailSecurity, NotifyEmail};
use crate::config::templates::Words;
use crate::model::{Audience, Importance, Notice, NoticeKind};
use crate::ports::Notifier;

/// For one command of the server; the whole delivery is bounded by the caller.
const COMMAND: Duration = Duration::from_secs(8);
/// What a server said is told up to here, in characters.
const TOLD_CHARS: usize = 200;
/// So many messages are remembered that some recipients have and others do not.
const REMEMBERED: usize = 200;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Mails each notice as plain text. All of one incident is one thread: its opening has the id that the
/// others refer to, and they carry the same subject. Each recipient is mailed on its own, so that one that
/// the server refuses for good keeps the message from nobody else; it is named in the log.
pub struct Email {
    params: NotifyEmail,
    from: Mailbox,
    to: Vec<Mailbox>,
    daemon: String,
    words: Words,
    /// The connection, and what it was made with: a password that was changed makes a new one.
    transport: Mutex<Option<(Login, Transport)>>,
    /// The messages that some recipients have, by id and address, so that a second attempt is for the rest.
    taken: Mutex<VecDeque<(String, String)>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Login(Option<(String, String)>);

impl Email {
    /// The route for these parameters.
    ///
    /// # Errors
    /// Where an address is none.
    pub fn new(params: NotifyEmail, daemon: &str, words: Words) -> Result<Self, String> {
        let address = |text: &str| text.parse::<Mailbox>().map_err(|_| format!("`{text}` is no address of mail"));
        let from = address(&params.from)?;
        let to = params.to.iter().map(|to| address(to)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err("email needs at least one recipient in `to`".into());
        }
        let (transport, taken) = (Mutex::default(), Mutex::default());
        Ok(Self { params, from, to, daemon: daemon.to_owned(), words, transport, taken })
    }

    fn login(&self, redactor: &mut Redactor) -> Result<Login, String> {
        let (Some(username), Some(password)) = (&self.params.username, &self.params.password) else {
            return Ok(Login(None));
        };
        let username = username.read().map_err(|error| error.to_string())?;
        let password = password.read().map_err(|error| error.to_string())?;
        redactor.hide(&password);
        Ok(Login(Some((username, password))))
    }

    fn transport(&self, login: Login) -> Result<Transport, String> {
        let mut kept = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, transport)) = &*kept
            && *known == login
        {
            return Ok(transport.clone());
        }
        let made = self.build(&login)?;
        *kept = Some((login, made.clone()));
        Ok(made)
    }

    fn build(&self, login: &Login) -> Result<Transport, String> {
        let params = &self.params;
        let tls = match params.security {
            EmailSecurity::Starttls => Tls::Required(self.tls()?),
            EmailSecurity::Tls => Tls::Wrapper(self.tls()?),
            EmailSecurity::None => Tls::None,
        };
        let mut builder = Transport::builder_dangerous(&params.host)
            .port(params.port())
            .tls(tls)
            .timeout(Some(COMMAND))
            .pool_config(PoolConfig::new().max_size(1).idle_timeout(Duration::from_secs(30)));
        if let Login(Some((username, password))) = login {
            builder = builder.credentials(Credentials::new(username.clone(), password.clone()));
        }
        Ok(builder.build())
    }

    fn tls(&self) -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(self.params.host.clone());
        if let Some(file) = &self.params.ca_file {
            let shown = file.display();
            let pem = std::fs::read(file).map_err(|error| format!("email: ca_file {shown}: {error}"))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|_| format!("email: ca_file {shown}: holds no certificate in PEM"))?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        builder.build().map_err(|error| format!("email: tls: {}", chain(&error)))
    }

    /// The id of the message that begins the thread of an incident: also known where that was never sent.
    fn root(&self, notice: &Notice) -> Option<String> {
        let incident = notice.incident.as_ref()?;
        Some(format!("<{incident}.{}@{}>", self.daemon, self.from.email.domain()))
    }

    /// The same for each attempt, so that a message that arrives twice is one.
    fn id(&self, notice: &Notice) -> String {
        if let Some(root) = self.root(notice).filter(|_| notice.kind == NoticeKind::IncidentOpened) {
            return root;
        }
        let incident = notice.incident.as_ref().map_or("", |incident| incident.as_str());
        let text = format!("{}\n{incident}\n{}\n{}\n{}", self.daemon, kind(notice), notice.at, notice.subject);
        let hash: String = Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("<{hash}.{}@{}>", self.daemon, self.from.email.domain())
    }

    /// What is said: the line above is one for the whole thread, since programs put together what has the
    /// same; so what is new comes first in the text.
    fn said(&self, notice: &Notice) -> (String, String) {
        let told = if self.words.is_plain() { notice.clone() } else { worded(&self.words, &self.daemon, notice) };
        let internal = self.words.audience() == Audience::Internal && !self.words.has_subject(notice.kind);
        let subject = match (&notice.incident, &notice.scenario, &notice.severity) {
            (Some(incident), Some(scenario), Some(severity)) if internal => {
                format!("{severity} {scenario} ({incident})")
            }
            (Some(incident), ..) if !internal => format!("{} ({incident})", told.subject),
            _ => told.subject.clone(),
        };
        let reply = notice.incident.is_some() && notice.kind != NoticeKind::IncidentOpened;
        let subject = if reply { format!("Re: {subject}") } else { subject };
        let body = match internal {
            true => format!("{}\n\n{}\n\n-- \n{} by failoverd", told.subject, told.body, self.daemon),
            false => told.body,
        };
        (subject, body)
    }

    fn message(&self, notice: &Notice) -> Result<Vec<u8>, String> {
        let (subject, body) = self.said(notice);
        let id = self.id(notice);
        let mut builder = Message::builder().from(self.from.clone()).subject(subject).message_id(Some(id.clone()));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if let Some(root) = self.root(notice).filter(|root| *root != id) {
            builder = builder.in_reply_to(root.clone()).references(root);
        }
        if notice.importance == Importance::Page {
            builder = builder.raw_header(header("X-Priority", "1")?).raw_header(header("Importance", "high")?);
        }
        // RFC 3834: no automatic answer to it.
        builder = builder.raw_header(header("Auto-Submitted", "auto-generated")?);
        let builder = builder.header(ContentType::TEXT_PLAIN).header(ContentTransferEncoding::QuotedPrintable);
        let message = builder.body(body).map_err(|error| format!("email: {error}"))?;
        Ok(message.formatted())
    }

    fn has(&self, id: &str, to: &str) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().any(|(known, by)| known == id && by == to)
    }

    fn remember(&self, id: &str, to: &str) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= REMEMBERED {
            taken.pop_front();
        }
        taken.push_back((id.to_owned(), to.to_owned()));
    }
}

fn header(name: &'static str, value: &str) -> Result<HeaderValue, String> {
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|error| error.to_string())?;
    Ok(HeaderValue::new(name, value.to_owned()))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = inner.source();
    }
    one_line(&text).chars().take(TOLD_CHARS).collect()
}

#[async_trait]
impl Notifier for Email {
    fn follows_incidents(&self) -> bool {
        true
    }

    async fn warm(&self) {
        let mut redactor = Redactor::default();
        let _told_when_it_counts = self.login(&mut redactor).and_then(|login| self.transport(login)).map(drop);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut redactor = Redactor::default();
        let transport = self.transport(self.login(&mut redactor)?)?;
        let (id, message) = (self.id(notice), self.message(notice)?);
        let (mut refused, mut later, mut taken) = (BTreeSet::new(), None, 0);
        for to in &self.to {
            let address = to.email.to_string();
            if self.has(&id, &address) {
                taken += 1;
                continue;
            }
            let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]);
            let envelope = envelope.map_err(|error| format!("email: {error}"))?;
            match transport.send_raw(&envelope, &message).await {
                Ok(_) => {
                    taken += 1;
                    self.remember(&id, &address);
                }
                Err(error) => {
                    let told = redactor.clean(&format!("email to {address}: {}", chain(&error)));
                    if error.is_permanent() && error.status().is_some_and(is_of_recipient) {
                        refused.insert(told);
                        continue;
                    }
                    let of_recipient = error.is_transient() && error.status().is_some_and(is_of_recipient);
                    later = Some(told);
                    // Of the server, and not of one recipient: the others would wait for it as long.
                    if !of_recipient {
                        break;
                    }
                }
            }
        }
        match (later, refused.is_empty(), taken) {
            (Some(later), ..) => Err(later),
            (None, true, _) => Ok(()),
            (None, false, 0) => Err(refused.into_iter().collect::<Vec<_>>().join("; ")),
            (None, false, _) => {
                for reason in refused {
                    tracing::error!(subject = %notice.subject, %reason, "undelivered: a recipient was refused for good");
                }
                Ok(())
            }
        }
    }
}

/// Does the server refuse one mailbox (450 to 453, 550 to 553, RFC 5321), and not us?
fn is_of_recipient(code: lettre::transport::smtp::response::Code) -> bool {
    matches!(u16::from(code), 450..=453 | 550..=553)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shape::Templates;
    use crate::notify::sample;

    fn email() -> Email {
        let table =
            serde_json::json!({ "host": "mail", "from": "Shop <failoverd@shop.example>", "to": ["a@shop.example"] });
        Email::new(serde_json::from_value(table).unwrap(), "shop", Words::default()).unwrap()
    }

    #[test]
    fn an_incident_is_one_thread_by_its_ids_and_by_its_subject() {
        let email = email();
        let text = |kind| String::from_utf8(email.message(&sample::page(kind, "P0")).unwrap()).unwrap();
        let (opened, parked) = (text(NoticeKind::IncidentOpened), text(NoticeKind::RunParked));
        assert!(opened.contains("Message-ID: <INC-1.shop@shop.example>\r\n"), "{opened}");
        assert!(opened.contains("Subject: P0 outage (INC-1)\r\n") && !opened.contains("References:"), "{opened}");
        assert!(parked.contains("References: <INC-1.shop@shop.example>\r\n"), "{parked}");
        assert!(parked.contains("Subject: Re: P0 outage (INC-1)\r\n"), "{parked}");
        assert_eq!(
            text(NoticeKind::RunParked).lines().find(|line| line.starts_with("Message-ID")),
            parked.lines().find(|line| line.starts_with("Message-ID"))
        );
    }

    #[test]
    fn customers_read_no_name_of_ours() {
        let mut email = email();
        email.words = Words::new(Audience::Customers, &Templates::default());
        let mut notice = sample::page(NoticeKind::IncidentOpened, "P0");
        notice.subject = "P0 outage: db.internal is down".into();
        let text = String::from_utf8(email.message(&notice).unwrap()).unwrap();
        assert!(text.contains("Subject: Service disruption (INC-1)") && text.contains("looking into it"), "{text}");
        for ours in ["db.internal", "outage", "P0", "first bad"] {
            assert!(!text.contains(ours), "{ours}: {text}");
        }
    }
}

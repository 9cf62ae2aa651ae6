//! Couriers on a real outbox, with routes that refuse.

use async_trait::async_trait;
use tokio::time::timeout;

use super::*;
use crate::model::{NoticeKind, WallTime};
use crate::state::SqliteState;

/// Remembers what it took; refuses what contains a word.
struct Chat {
    refuses: &'static str,
    took: Mutex<Vec<String>>,
    heard: Notify,
}

impl Chat {
    fn that_refuses(refuses: &'static str) -> Arc<Self> {
        Arc::new(Self { refuses, took: Mutex::default(), heard: Notify::new() })
    }

    async fn took(&self, subject: &str) {
        let heard = async {
            while !lock(&self.took).iter().any(|took| took == subject) {
                self.heard.notified().await;
            }
        };
        timeout(Duration::from_secs(30), heard).await.unwrap_or_else(|_| panic!("{subject} never came"));
    }
}

#[async_trait]
impl Notifier for Chat {
    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        if notice.subject.contains(self.refuses) {
            return Err("400 Bad Request".to_owned());
        }
        lock(&self.took).push(notice.subject.clone());
        self.heard.notify_one();
        Ok(())
    }
}

fn notice(subject: &str) -> Notice {
    Notice {
        kind: NoticeKind::Daemon,
        importance: Importance::Page,
        at: WallTime(0),
        scenario: None,
        severity: None,
        incident: None,
        run: None,
        subject: subject.to_owned(),
        body: String::new(),
        approval: None,
        routes: None,
        situation: None,
    }
}

fn route(name: &str, notifier: &Arc<Chat>) -> Route {
    let notifier = Arc::clone(notifier) as Arc<dyn Notifier>;
    let (from, audience) = (NotifyFrom::Info, Audience::Internal);
    Route { name: name.to_owned(), from, audience, fallback: None, notifier }
}

/// An outbox on a real disk, which has to outlive its couriers.
struct Place {
    outbox: Arc<Mutex<dyn Outbox>>,
    _kept: Box<dyn std::any::Any>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (journal, outbox, authority) = SqliteState::open(&folder.path().join("state.db")).unwrap().split();
        Self { outbox: Arc::new(Mutex::new(outbox)), _kept: Box::new((folder, journal, authority)) }
    }

    fn put(&self, routes: &[&str], subject: &str) {
        let routes: Vec<String> = routes.iter().map(|route| (*route).to_owned()).collect();
        lock(&self.outbox).put(&routes, &notice(subject)).unwrap();
    }

    fn start(&self, routes: Vec<Route>) -> Notices {
        Notices::start(Arc::clone(&self.outbox), routes, &Metrics::new().unwrap())
    }
}

#[tokio::test]
async fn a_dead_route_does_not_stand_in_the_way_of_the_others() {
    let place = Place::new();
    (0..=ROUND).for_each(|number| place.put(&["dead"], &format!("number {number}")));
    place.put(&["chat", "dead"], "the page");
    let (dead, chat) = (Chat::that_refuses(""), Chat::that_refuses("nothing"));
    let notices = place.start(vec![route("dead", &dead), route("chat", &chat)]);
    chat.took("the page").await;
    assert!(lock(&dead.took).is_empty());
    notices.finish(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn one_notice_that_is_always_refused_does_not_hold_up_those_behind_it() {
    let place = Place::new();
    for subject in ["one", "poison", "two", "three"] {
        place.put(&["chat"], subject);
    }
    let chat = Chat::that_refuses("poison");
    let notices = place.start(vec![route("chat", &chat)]);
    chat.took("three").await;
    assert_eq!(*lock(&chat.took), ["one", "two", "three"]);
    assert_eq!(lock(&place.outbox).pending("chat", 10).unwrap().len(), 1, "it is still tried");
    notices.finish(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn what_waits_for_a_route_that_is_gone_is_named_and_not_kept() {
    let place = Place::new();
    place.put(&["gone", "chat"], "the page");
    let chat = Chat::that_refuses("nothing");
    let notices = place.start(vec![route("chat", &chat)]);
    chat.took("the page").await;
    notices.finish(Duration::from_secs(5)).await;
    assert!(lock(&place.outbox).waiting().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_route_does_not_take_its_fallback_tells_and_names() {
    let place = Place::new();
    place.put(&["pager"], "the page");
    let (pager, chat) = (Chat::that_refuses(""), Chat::that_refuses("nothing"));
    let mut routes = vec![route("pager", &pager), route("chat", &chat)];
    routes[0].fallback = Some("chat".into());
    // Each stands in for the other; what is handed over is not handed back.
    routes[1].fallback = Some("pager".into());
    let notices = place.start(routes);
    chat.took("the page [for pager, which does not take it]").await;
    let told = notices.undelivered();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].route.as_str(), told[0].state), ("pager", NoticeState::HandedOver));
    assert_eq!(told[0].reason.as_deref(), Some("400 Bad Request"));
    notices.finish(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn a_storm_is_told_as_one_and_a_page_does_not_wait_behind_it() {
    let place = Place::new();
    let quiet = |number: usize| Notice { importance: Importance::Info, ..notice(&format!("number {number}")) };
    (0..200).for_each(|number| lock(&place.outbox).put(&["chat".into()], &quiet(number)).unwrap());
    place.put(&["chat"], "the page");
    let chat = Chat::that_refuses("nothing");
    let notices = place.start(vec![route("chat", &chat)]);
    chat.took("200 notices, the newest: number 199").await;
    assert_eq!(lock(&chat.took)[..], ["the page", "200 notices, the newest: number 199"]);
    notices.finish(Duration::from_secs(5)).await;
    assert!(lock(&place.outbox).waiting().unwrap().is_empty());
}

fn addressed(notices: &Notices, notice: Notice) -> Vec<String> {
    notices.address(notice).routes
}

#[tokio::test]
async fn a_notice_goes_to_those_that_it_names_and_a_page_never_to_nobody() {
    let place = Place::new();
    let chat = Chat::that_refuses("nothing");
    let mut routes = vec![route("chat", &chat), route("pager", &chat), route("clients", &chat)];
    routes[1].from = NotifyFrom::Page;
    routes[2].audience = Audience::Customers;
    let notices = place.start(routes);
    let named = |names: &[&str], importance| Notice {
        routes: Some(names.iter().map(|name| (*name).into()).collect()),
        importance,
        ..notice("x")
    };
    assert_eq!(addressed(&notices, notice("x")), ["chat", "pager"]);
    assert_eq!(addressed(&notices, named(&["pager"], Importance::Page)), ["pager"]);
    assert_eq!(addressed(&notices, named(&["gone"], Importance::Page)), ["chat", "pager"], "rather all than nobody");
    assert!(addressed(&notices, named(&["pager"], Importance::Info)).is_empty(), "it takes pages only");
    let of_incident = |kind, importance| Notice { kind, importance, incident: Some("INC-1".into()), ..notice("x") };
    let heard = |kind, importance| addressed(&notices, of_incident(kind, importance)).contains(&"clients".to_owned());
    assert!(heard(NoticeKind::IncidentOpened, Importance::Page) && heard(NoticeKind::StatusUpdate, Importance::Info));
    assert!(!heard(NoticeKind::IncidentOpened, Importance::Info), "it may be over before they notice");
    assert!(!heard(NoticeKind::RunParked, Importance::Page) && !heard(NoticeKind::Holding, Importance::Page));
    notices.finish(Duration::from_millis(1)).await;
}

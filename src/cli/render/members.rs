//! Who leads, and who is there.

use std::fmt::Write as _;

use super::style::{Style, Tone, clean, lines};
use super::time::relative;
use crate::core::view::{MembershipView, StatusView};
use crate::model::WallTime;

/// The line of `failoverd status`; empty where the daemon is alone.
pub fn membership(view: &StatusView, style: &Style) -> String {
    let Some(members) = &view.members else { return String::new() };
    let there = members.members.len();
    let line = match (&members.term, &members.leader) {
        (Some(term), _) => style.paint(Tone::Plain, &format!("leads {there} members (term {term})")),
        (None, Some(leader)) => style.paint(Tone::Plain, &format!("follows {leader}, which leads {there} members")),
        (None, None) => style.paint(Tone::Bad, "! nobody leads: nothing is started (`failoverd members`)"),
    };
    let trouble =
        members.trouble.as_ref().map(|why| style.paint(Tone::Bad, &format!("! state store: {}\n", clean(why))));
    format!("{line}\n{}", trouble.unwrap_or_default())
}

/// `failoverd members`.
pub fn render_members(view: &MembershipView, now: WallTime, style: &Style) -> String {
    let mut table = style.table(&["MEMBER", "ROLE", "DOMAIN", "VERSION", "JOURNAL", "SINCE"]);
    for member in &view.members {
        let (tone, role) = if member.leads { (Tone::Good, "leads") } else { (Tone::Plain, "follows") };
        let own = if member.own { " (asked)" } else { "" };
        table.add_row([
            style.cell(Tone::Head, format!("{}{own}", clean(member.name.as_str()))),
            style.cell(tone, role),
            style.cell(Tone::Plain, clean(member.domain.as_str())),
            style.cell(Tone::Plain, clean(&member.version)),
            style.cell(Tone::Plain, format!("{} records, schema {}", member.records, member.schema)),
            style.cell(Tone::Plain, relative(now, member.since)),
        ]);
    }
    let mut text = lines(&table);
    if view.leader.is_none() {
        let _ = writeln!(text, "{}", style.paint(Tone::Bad, "Nobody leads: nothing is started until a member does."));
    }
    if let Some(why) = &view.trouble {
        let _ = writeln!(
            text,
            "{}",
            style.paint(Tone::Bad, &format!("From here the state store cannot be used: {}", clean(why)))
        );
    }
    text
}

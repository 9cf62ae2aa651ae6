//! Several daemons on one state.

use super::*;

const STATE: &str = "[daemon]\nname = \"a\"\nstate = \"etcd://n1:1,n2:1,n3:1\"\n";
const TLS: &str =
    "[vantage_tls]\nca_file = \"/etc/hostname\"\ncertificate_file = \"/etc/hostname\"\nkey_file = \"/etc/hostname\"\n";

fn member(name: &str, domain: &str) -> String {
    format!("[members.{name}]\ndomain = \"{domain}\"\nurl = \"https://{name}.example:7946\"\n")
}

fn told(text: &str) -> Vec<String> {
    let faults = match Folder::new(text).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    let others = ["no_anchors", "single_route", "no_route", "unheard_witnesses"];
    faults.iter().map(|fault| fault.code.to_string()).filter(|code| !others.contains(&code.as_str())).collect()
}

#[test]
fn what_several_daemons_need_is_told() {
    let (a, b, c) = (member("a", "one"), member("b", "two"), member("c", "three"));
    let quorum = "[quorum]\nvantages = 2\n";
    for (text, expected) in [
        (format!("{STATE}{quorum}{TLS}{a}{b}{c}"), vec![]),
        (format!("{STATE}{quorum}{TLS}{b}{c}"), vec!["not_a_member"]),
        (format!("{STATE}{quorum}{a}{b}{c}"), vec!["missing_key"]),
        (format!("{STATE}{a}"), vec!["one_member"]),
        (format!("{STATE}{TLS}{a}{}", member("b", "one")), vec!["one_domain"]),
        (format!("{STATE}failure_domain = \"two\"\n{quorum}{TLS}{a}{b}"), vec!["two_domains", "impossible_quorum"]),
        (format!("{quorum}{TLS}{a}{b}"), vec!["no_shared_state"]),
        (format!("{STATE}{quorum}{TLS}{a}{b}[etcd]\nttl = \"1s\"\n"), vec!["bad_ttl"]),
        (format!("{STATE}{quorum}{TLS}{a}{b}[etcd]\nttl = \"2500ms\"\n"), vec!["bad_ttl"]),
        (format!("{STATE}{quorum}{TLS}{a}{b}[etcd]\ntls = {{ key_file = \"/etc/hostname\" }}\n"), vec!["missing_key"]),
        (format!("{STATE}{quorum}{TLS}{a}{b}[etcd]\nlocal = \"x.db\"\n"), vec!["relative_path"]),
        (
            format!("{STATE}{quorum}{TLS}{a}{b}[witnesses.b]\ndomain = \"x\"\nurl = \"https://x:1\"\n"),
            vec!["ambiguous_name"],
        ),
        ("[etcd]\nttl = \"5s\"\n".to_owned(), vec!["not_used"]),
        (
            format!(
                "{STATE}{quorum}{TLS}{a}{b}[health_switch]\nlisten = \"127.0.0.1:1\"\n[health_switch.switches]\nx = {{ initially = \"off\" }}\n"
            ),
            vec!["not_shared"],
        ),
    ] {
        assert_eq!(told(&text), expected, "{text}");
    }
}

#[test]
fn the_other_members_are_vantages_and_the_own_table_says_where_this_one_stands() {
    let (a, b) = (member("a", "one"), member("b", "two"));
    let settings = Folder::new(&format!("{STATE}[quorum]\nvantages = 2\n{TLS}{a}{b}")).loaded().settings;
    assert_eq!(settings.domain.as_str(), "one");
    let others: Vec<_> = settings.witnesses.iter().map(|other| (other.name.as_str(), other.domain.as_str())).collect();
    assert_eq!(others, [("b", "two")]);
}

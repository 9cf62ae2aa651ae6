//! Wrong parameters of probes, and what is said of them.

use super::*;

/// `code` and the path of every fault of a probe of this kind.
fn told(kind: &str) -> Vec<String> {
    let text = format!("[anchors]\ntcp = [\"1.1.1.1:1\"]\n[probes.x]\n{kind}\n");
    let mut folder = Folder::new(&text);
    folder.options.inspect = false;
    let faults = match folder.load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    for fault in faults.iter() {
        assert!(!fault.fix.is_empty(), "{fault:?} says nothing of what to do");
    }
    faults.iter().map(|fault| format!("{} {}", fault.code, fault.path.trim_start_matches("probes.x."))).collect()
}

fn assert_told(kind: &str, expected: &[&str]) {
    assert_eq!(told(kind), expected, "{kind}");
}

#[test]
fn a_certificate_is_looked_for_where_one_can_be() {
    assert_told("tls = { address = \"api.example:443\" }", &[]);
    assert_told("tls = { address = \"[2001:db8::1]:443\", server_name = \"192.0.2.1\", days_left = 0 }", &[]);
    assert_told("tls = { address = \"https://api.example\" }", &["bad_address tls.address"]);
    assert_told("tls = { address = \"a:1\", server_name = \"https://a\" }", &["bad_name tls.server_name"]);
    assert_told("tls = { address = \"a:1\", days_left = -1 }", &["wrong_value tls.days_left"]);
    assert_told("tls = { address = \"a:1\", days = 3 }", &["unknown_key tls.days"]);
}

#[test]
fn a_grpc_server_has_an_address_and_no_path() {
    assert_told("grpc = { url = \"https://orders.example\", service = \"shop.v1.Orders\" }", &[]);
    assert_told("grpc = { url = \"http://[::1]:50051/\" }", &[]);
    assert_told("grpc = { url = \"orders.example:443\" }", &["bad_url grpc.url"]);
    assert_told("grpc = { url = \"https://orders.example/grpc.health.v1.Health/Check\" }", &["bad_url grpc.url"]);
    assert_told("grpc = { url = \"https://u:sesame@orders.example\" }", &["plain_secret grpc.url"]);
    assert_told("grpc = { url = \"https://a\", service = \"shop.Orders/Get\" }", &["bad_name grpc.service"]);
    assert_told("grpc = { url = \"http://a\", ca_file = \"/ca.pem\" }", &["contradiction grpc.ca_file"]);
}

#[test]
fn a_host_has_no_port() {
    assert_told("icmp = { host = \"gateway.example\" }", &[]);
    assert_told("icmp = { host = \"2001:db8::1\" }", &[]);
    for host in ["", "gateway.example:80", "https://gateway.example", "a b"] {
        assert_told(&format!("icmp = {{ host = \"{host}\" }}"), &["bad_name icmp.host"]);
    }
    assert_told("icmp = { host = \"a\", count = 3 }", &["unknown_key icmp.count"]);
}

#[test]
fn a_plugin_is_named_by_its_path_and_holds_no_secret() {
    assert_told("exec = { command = [\"/usr/lib/nagios/plugins/check_x\", \"-H\", \"db\"] }", &[]);
    assert_told("exec = { command = [\"/x\"], environment = { PASSWORD = { env = \"P\" }, MODE = \"fast\" } }", &[]);
    assert_told("exec = { command = [] }", &["empty exec.command"]);
    assert_told("exec = { command = [\"check_x\"] }", &["not_absolute exec.command[0]"]);
    assert_told("exec = { command = [\"/x\", \"--password=sesame\"] }", &["plain_secret exec.command[1]"]);
    assert_told("exec = { command = [\"/bin/sh\", \"-c\", \"true\"] }", &["through_a_shell exec.command"]);
    assert_told(
        "exec = { command = [\"/x\"], environment = { \"a b\" = \"x\", PASSWORD = \"sesame\" } }",
        &["bad_variable exec.environment.\"a b\"", "plain_secret exec.environment.PASSWORD"],
    );
    assert_told("exec = \"/x\"", &["wrong_value exec"]);
}

const LOGIN: &str = "{ url = \"https://a/login\", send = { form = { user = \"probe\", password = { env = \"P\" } } }, take = { token = \"/token\" } }";

#[test]
fn a_sequence_takes_before_it_sends_and_holds_no_secret() {
    let steps = |second: &str| format!("http_sequence = {{ steps = [ {LOGIN}, {second} ] }}");
    let at = |second: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|one| one.replace(' ', " http_sequence.steps[1].")).collect();
        assert_eq!(told(&steps(second)), expected, "{second}");
    };
    at("{ url = \"https://a/\", headers = { authorization = { join = [\"Bearer \", { taken = \"token\" }] } } }", &[]);
    at("{ url = \"https://a/\", send = { json = { a = [{ taken = \"token\" }], b = { env = \"X\" } } } }", &[]);
    at("{ url = \"https://a/\", headers = { x = { taken = \"tokn\" } } }", &["unknown_name headers.x"]);
    at(
        "{ url = \"https://a/\", take = { t = \"/t\" }, send = { body = { taken = \"t\" } } }",
        &["unknown_name send.body"],
    );
    at(
        "{ url = \"https://a/\", headers = { authorization = \"Bearer sesame\" } }",
        &["plain_secret headers.authorization"],
    );
    at(
        "{ url = \"https://a/\", headers = { authorization = { join = [\"Bearer \", \"sesame\"] } } }",
        &["plain_secret headers.authorization"],
    );
    at("{ url = \"https://a/\", send = { form = { password = \"sesame\" } } }", &["plain_secret send.form.password"]);
    at("{ url = \"https://a/\", send = { json = { password = \"sesame\" } } }", &["plain_secret send.json"]);
    at("{ url = \"https://a/\", send = { json = { a = { join = 3 } } } }", &["wrong_value send.json"]);
    at("{ url = \"https://a/\", method = \"GET\", send = { body = \"x\" } }", &["contradiction send.body"]);
    at("{ url = \"https://a/\", send = { form = {}, body = \"x\" } }", &["wrong_value send"]);
    at("{ url = \"ftp://a/\" }", &["bad_url url"]);
    at("{ url = \"https://a/\", method = \"FETCH\" }", &["bad_method method"]);
    at("{ url = \"https://a/\", matches = \"(\" }", &["bad_pattern matches"]);
    at("{ url = \"https://a/\", json = { status = 1 } }", &["bad_pointer json.status"]);
    at("{ url = \"https://a/\", take = { t = \"t\" } }", &["bad_pointer take.t"]);
    at("{ url = \"https://a/\", headers = { \"a:b\" = { taken = \"token\" } } }", &["bad_header headers.\"a:b\""]);
}

#[test]
fn a_sequence_is_short() {
    assert_told("http_sequence = { steps = [] }", &["how_many_steps http_sequence.steps"]);
    let nine = ["{ url = \"https://a/\" }"; 9].join(", ");
    assert_told(&format!("http_sequence = {{ steps = [ {nine} ] }}"), &["how_many_steps http_sequence.steps"]);
    assert_told(
        "http_sequence = { steps = [ { url = \"https://a/\" } ], max_latency = \"5s\" }",
        &["never_slow http_sequence.max_latency"],
    );
}

#[test]
fn the_secrets_of_probes_are_in_no_message() {
    for kind in [
        "grpc = { url = \"https://u:sesame@orders.example\" }",
        "exec = { command = [\"/x\", \"--password=sesame\"] }",
        "exec = { command = [\"/x\"], environment = { PASSWORD = \"sesame\" } }",
        "http_sequence = { steps = [ { url = \"https://a/\", headers = { authorization = { join = [\"Bearer \", \"sesame\"] } } } ] }",
        "http_sequence = { steps = [ { url = \"https://a/\", send = { form = { password = \"sesame\" } } } ] }",
        "http_sequence = { steps = [ { url = \"https://a/\", send = { json = { password = \"sesame\" } } } ] }",
    ] {
        let faults = Folder::new(&format!("[probes.x]\n{kind}\n")).faults();
        assert!(faults.has_errors(), "{kind}");
        for shown in [faults.render(false), faults.to_string(), faults.to_json().to_string()] {
            assert!(!shown.contains("sesame"), "{kind}\n{shown}");
        }
    }
}

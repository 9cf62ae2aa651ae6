//! Plain DNS: one question to one server, never cached; and the sending of signed updates.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Edns, Message, MessageType, Query};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::CONNECT_TIMEOUT;
use super::failure::Failure;

/// A question without an answer is sent again after this long.
pub const AGAIN: Duration = Duration::from_millis(400);

/// The largest datagram that we ask for: what passes every network unfragmented (DNS flag day 2020).
const DATAGRAM: u16 = 1232;

/// At most so many of the system's resolvers are asked.
const MOST_RESOLVERS: usize = 4;

/// A whole domain name, never one of a search list.
///
/// # Errors
/// Where it is none.
pub fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_str_relaxed(text).map_err(|error| format!("`{text}` is not a domain name: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Addresses and names in one spelling: lower case, without the dot at the end. Text records are
/// compared as they are.
pub fn normal(data: &RData) -> String {
    let text = data.to_string();
    if matches!(data, RData::TXT(_)) { text } else { normal_text(&text) }
}

/// The same for a text of the file.
pub fn normal_text(text: &str) -> String {
    if let Ok(address) = text.trim().parse::<IpAddr>() {
        return address.to_string();
    }
    let words = text.split_whitespace().map(|word| word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase());
    words.collect::<Vec<_>>().join(" ")
}

/// The resolvers of this host. Read each time: the file is small, and changes with the network.
///
/// # Errors
/// Where `/etc/resolv.conf` cannot be read, or names none.
pub fn resolvers() -> Result<Vec<SocketAddr>, String> {
    let (config, _) =
        hickory_resolver::system_conf::read_system_conf().map_err(|error| format!("/etc/resolv.conf: {error}"))?;
    let found: Vec<SocketAddr> = config
        .name_servers()
        .iter()
        .take(MOST_RESOLVERS)
        .map(|server| (server.ip, server.connections.first().map_or(53, |connection| connection.port)).into())
        .collect();
    if found.is_empty() { Err("no resolver is configured in /etc/resolv.conf".to_owned()) } else { Ok(found) }
}

/// A question for records of a name.
pub fn question(name: &Name, record: RecordType, recursive: bool) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = recursive;
    query.add_query(Query::query(name.clone(), record));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM).set_version(0);
    query.set_edns(edns);
    query
}

/// Asks the first of these servers that answers.
///
/// # Errors
/// The last one's, where none does.
pub async fn ask_any(
    servers: &[SocketAddr],
    name: &Name,
    record: RecordType,
    until: Instant,
) -> Result<Message, Failure> {
    let mut last = Failure::again("there is no resolver to ask");
    for (place, server) in servers.iter().enumerate() {
        let now = Instant::now();
        let share = (until.saturating_duration_since(now)) / u32::try_from(servers.len() - place).unwrap_or(1);
        match ask(*server, name, record, true, now + share).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// Asks one server over UDP, again and again until `until`, and over TCP where the answer was cut.
///
/// # Errors
/// [`Failure`] that names the server; it changes nothing.
pub async fn ask(
    server: SocketAddr,
    name: &Name,
    record: RecordType,
    recursive: bool,
    until: Instant,
) -> Result<Message, Failure> {
    let query = question(name, record, recursive);
    let bytes = query.to_vec().map_err(|error| Failure::refused(format!("{name}: {error}")))?;
    let asked = tokio::time::timeout_at(until.into(), over_udp(server, &query, &bytes)).await;
    let asked = asked.map_err(|_| Failure::unknown(format!("{server} did not answer in time")))?;
    let answer = asked.map_err(|error| Failure::unknown(format!("{server} does not answer: {error}")))?;
    let Some(answer) = answer else {
        let bytes = exchange(server, &bytes, until).await?;
        return Message::from_vec(&bytes)
            .ok()
            .filter(|answer| belongs(&query, answer))
            .ok_or_else(|| Failure::unknown(format!("{server} answered something else")));
    };
    Ok(answer)
}

/// Asks one server over UDP, again and again until it answers: bound it. `None`: the answer was cut.
///
/// # Errors
/// What the system says of it, also ICMP's "port unreachable".
pub async fn over_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Option<Message>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that only this server's datagrams come through, and ICMP's "port unreachable" comes back as an
    // error.
    socket.connect(server).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        socket.send(bytes).await?;
        let again = tokio::time::sleep(AGAIN);
        tokio::pin!(again);
        loop {
            let length = tokio::select! {
                received = socket.recv(&mut buffer) => received?,
                () = &mut again => break,
            };
            match Message::from_vec(&buffer[..length]) {
                Ok(answer) if belongs(query, &answer) => {
                    return Ok(if answer.metadata.truncation { None } else { Some(answer) });
                }
                // Not to our question: a late or a forged one. We go on listening.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// Sends a message over TCP once, and reads the answer to it.
///
/// # Errors
/// `Again` where no connection was made, `Unknown` where the message may have arrived.
pub async fn exchange(server: SocketAddr, message: &[u8], until: Instant) -> Result<Vec<u8>, Failure> {
    let connect_until = until.min(Instant::now() + CONNECT_TIMEOUT);
    if Instant::now() >= until {
        return Err(Failure::again(format!("{server} was not asked: no time is left")));
    }
    let mut stream = match tokio::time::timeout_at(connect_until.into(), TcpStream::connect(server)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Failure::again(format!("cannot connect to {server}: {error}"))),
        Err(_) => return Err(Failure::again(format!("cannot connect to {server}: no answer in time"))),
    };
    let framed = framed(message).ok_or_else(|| Failure::refused("a DNS message is longer than 64 KiB"))?;
    match tokio::time::timeout_at(until.into(), over_stream(&mut stream, &framed)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::unknown(format!("the connection to {server} broke: {error}"))),
        Err(_) => Err(Failure::unknown(format!("{server} did not answer in time"))),
    }
}

/// A message as a stream carries it (RFC 7766, section 8); `None` where it is longer than 64 KiB.
pub fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes(), message].concat())
}

/// Sends what is [`framed`], and reads the answer to it: bound it.
///
/// # Errors
/// Where the stream breaks.
pub async fn over_stream(stream: &mut TcpStream, framed: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Ok(buffer)
}

/// Is this the answer to our question (RFC 5452, section 9.1)?
pub fn belongs(query: &Message, answer: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        // A server that cannot parse a question may leave it out.
        && (answer.queries.is_empty() || answer.queries == query.queries)
}

/// `address`, `address:port`, `name` or `name:port`: which of them.
pub fn host_and_port(text: &str, port: u16) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), address.port()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_string(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, port),
    };
    let is_name = !host.is_empty() && !host.contains(['/', ' ', '@', '[', ']']);
    is_name.then(|| (host.to_owned(), port))
}

/// The addresses of a host, by the system's resolver where it is a name.
///
/// # Errors
/// [`Failure`] where it has none, or they are not known in time.
pub async fn addresses(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::time::timeout_at(until.into(), tokio::net::lookup_host((host, port))).await;
    match found {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(Failure::again(format!("the address of {host} is not known: {error}"))),
        Err(_) => Err(Failure::again(format!("the address of {host} was not told in time"))),
    }
}

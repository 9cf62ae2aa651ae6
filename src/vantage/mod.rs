//! How vantages talk to each other.
//!
//! Lives here: the authority of their own and its certificates ([`certs`]), who a vantage is
//! ([`identity`]), ballots on the wire ([`wire`]), their server ([`serve`]) and the questions to it
//! ([`ask`]). Does not live here: whether a ballot counts (`core::ballot`), and the loops that probe and
//! decide (`daemon`). Imports `model`, `core`, `config`,
//! `clients` (what errors say) and `control` (the accept loop).
//!
//! A vote is believed because of three things: the connection is mutual TLS by an authority that signs
//! nothing else; the answer is signed with the key of the certificate that names vantage and failure
//! domain; and it repeats a nonce that was made for this question.

pub mod ask;
pub mod certs;
pub mod identity;
pub mod serve;
pub mod wire;

#[cfg(test)]
mod tests;

//! Amazon Web Services: one file per service. Clients and the meaning of errors are in
//! [`crate::clients::aws`].

pub mod rds;
pub mod route53;
mod route53_records;
pub mod sns;

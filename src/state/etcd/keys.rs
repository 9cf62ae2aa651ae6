//! The names of the keys.

/// All keys begin with the same prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Below this prefix, without a slash at its end.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// Who leads; its create revision is the term.
    pub fn leader(&self) -> String {
        format!("{}/leader", self.prefix)
    }

    /// Who shall lead next, for a moment.
    pub fn heir(&self) -> String {
        format!("{}/heir", self.prefix)
    }

    /// Where the journal ends: the number of the last record and its checksum.
    pub fn tail(&self) -> String {
        format!("{}/tail", self.prefix)
    }

    /// The version of the journal's records.
    pub fn schema(&self) -> String {
        format!("{}/schema", self.prefix)
    }

    /// A record. The numbers have one width, so that their order is that of the keys.
    pub fn record(&self, seq: u64) -> String {
        format!("{}/journal/{seq:016x}", self.prefix)
    }

    /// One behind the last record that there can be.
    pub fn records_end(&self) -> String {
        format!("{}/journal0", self.prefix)
    }

    /// Every member is below.
    pub fn members(&self) -> String {
        format!("{}/members/", self.prefix)
    }

    /// A member that is there.
    pub fn member(&self, name: &str) -> String {
        format!("{}/members/{name}", self.prefix)
    }

    /// Every command that was handed on is below.
    pub fn asks(&self) -> String {
        format!("{}/asks/", self.prefix)
    }

    /// A command that was handed on.
    pub fn ask(&self, id: &str) -> String {
        format!("{}/asks/{id}", self.prefix)
    }

    /// What became of it.
    pub fn answer(&self, id: &str) -> String {
        format!("{}/answers/{id}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_keys_is_that_of_the_records() {
        let keys = Keys::new("/failoverd/shop/");
        assert_eq!(keys.leader(), "/failoverd/shop/leader");
        assert!(keys.record(9) < keys.record(10) && keys.record(15) < keys.record(16));
        assert!(keys.record(u64::MAX) < keys.records_end() && keys.record(0) < keys.records_end());
    }
}

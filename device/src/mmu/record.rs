//! One failed access as the log has it: more than the chip's registers carry.

use e3k_regs::GpuVa;
use e3k_regs::fields::FaultClient;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Why an access could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCause {
    /// Bits above 39 are set.
    AddressTooWide,
    /// The L1 register is not valid.
    InvalidL1,
    /// The L2 entry is not valid.
    InvalidL2,
    /// The L3 entry is not valid.
    InvalidL3,
    /// The L2 entry has its `LargePage` bit, which this GPU takes for an error
    /// (see [`crate::LargePage::Fault`]).
    LargePage,
    /// A table or page lies beyond the end of VRAM.
    OutsideVram,
    /// Nobody answered at the bus address.
    Bus,
    /// As `Bus`: the function is no bus master, so nobody was asked.
    BusMasterOff,
    /// The access was possible, and whoever watches the GPU refused it (see
    /// [`crate::Watch::admits`]).
    Refused,
}

impl fmt::Display for FaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressTooWide => "the address has more than 40 bits",
            Self::InvalidL1 => "the L1 register is not valid",
            Self::InvalidL2 => "the L2 entry is not valid",
            Self::InvalidL3 => "the L3 entry is not valid",
            Self::LargePage => {
                "the L2 entry has its LargePage bit, which this GPU is told to refuse"
            }
            Self::OutsideVram => "beyond the end of VRAM",
            Self::Bus => "no memory answers at the bus address",
            Self::BusMasterOff => "bus master is off in the PCI command register",
            Self::Refused => "refused by a check, not by the chip",
        })
    }
}

/// One failed access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Who accessed.
    #[serde(serialize_with = "client_name", deserialize_with = "named_client")]
    pub client: FaultClient,
    /// Whether it was a write.
    pub write: bool,
    /// For which process id.
    pub process_id: u8,
    /// The address.
    #[serde(serialize_with = "text", deserialize_with = "address")]
    pub va: GpuVa,
    /// Why it failed.
    pub cause: FaultCause,
    /// The level of the entry that failed, 1 to 3; 0: no entry, the access itself.
    pub level: u8,
    /// What it led to, where that is what failed.
    pub target: Option<String>,
    /// The ring on whose behalf it was done.
    pub ring: u8,
    /// Byte offset in that ring of the packet that was being executed.
    pub ring_offset: u32,
}

impl fmt::Display for FaultRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.write { "write" } else { "read" };
        write!(
            f,
            "fault: {} {direction} at {} (process {}, level {}, ring {} offset {:#x}): {}",
            self.client.name(),
            self.va,
            self.process_id,
            self.level,
            self.ring,
            self.ring_offset,
            self.cause
        )?;
        match &self.target {
            Some(target) => write!(f, " ({target})"),
            None => Ok(()),
        }
    }
}

fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn client_name<S: Serializer>(client: &FaultClient, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(client.name())
}

fn named_client<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FaultClient, D::Error> {
    let name = String::deserialize(deserializer)?;
    let client = FaultClient::ALL.iter().find(|client| client.name() == name);
    client
        .copied()
        .ok_or_else(|| D::Error::custom(format_args!("no client is called {name:?}")))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GpuVa, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("va:0x");
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .map(GpuVa)
        .ok_or_else(|| D::Error::custom(format_args!("{text:?} is no address of the GPU's")))
}

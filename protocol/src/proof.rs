//! Proof of the branch key: challenge and response, both ways, so that the key never crosses the wire.
//!
//! Each side sends 32 random bytes and proves the key by an HMAC-SHA256 over both challenges, a word for its
//! role, and the branch's name. The branch proves itself first: a client that is lured to a stranger learns
//! that before it has shown anything. The words keep one side's proof from serving as the other's.
//!
//! The challenges are passed in: this crate draws no random numbers.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of the key, of a challenge and of a proof.
pub const PROOF_BYTES: usize = 32;

/// 32 random bytes of one side.
pub type Nonce = [u8; PROOF_BYTES];

/// The key that all branches of a bank and their operators share.
#[derive(Clone, PartialEq, Eq)]
pub struct BranchKey([u8; PROOF_BYTES]);

/// Which side proves that it has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    /// The branch that answers.
    Branch,
    /// The client, operator or peer that asks.
    Client,
}

impl BranchKey {
    /// A key from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; PROOF_BYTES]) -> Self {
        Self(bytes)
    }

    /// The text that the key file holds: 64 hexadecimal digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_hex(&self.0)
    }

    /// One side's proof, in hexadecimal.
    #[must_use]
    pub fn prove(&self, prover: Prover, client: &Nonce, branch: &Nonce, branch_name: &str) -> String {
        to_hex(&self.mac(prover, client, branch, branch_name).finalize().into_bytes())
    }

    /// Whether `proof` is that side's proof. Takes the same time for every wrong one.
    #[must_use]
    pub fn is_proof(&self, proof: &str, prover: Prover, client: &Nonce, branch: &Nonce, branch_name: &str) -> bool {
        let Some(bytes) = from_hex(proof) else { return false };
        self.mac(prover, client, branch, branch_name).verify_slice(&bytes).is_ok()
    }

    fn mac(&self, prover: Prover, client: &Nonce, branch: &Nonce, branch_name: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        let role: &[u8] = match prover {
            Prover::Branch => b"bank branch proof 1\0",
            Prover::Client => b"bank client proof 1\0",
        };
        // All parts but the last have a fixed length, so no two inputs run together.
        for part in [role, client, branch, branch_name.as_bytes()] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for BranchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BranchKey(********)")
    }
}

impl FromStr for BranchKey {
    type Err = KeyError;

    /// Reads what the key file holds; blanks and line endings around it are ignored.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        from_hex(text.trim()).map(Self).ok_or(KeyError)
    }
}

/// A text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a branch key has 64 hexadecimal digits")
    }
}

impl std::error::Error for KeyError {}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes from 64 hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<[u8; PROOF_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * PROOF_BYTES {
        return None;
    }
    let mut bytes = [0; PROOF_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_challenges_role_and_name_make_the_proof() {
        let key = BranchKey::from_bytes([7; 32]);
        let (client, branch) = ([1; 32], [2; 32]);
        let proof = key.prove(Prover::Branch, &client, &branch, "Delhi");
        assert!(key.is_proof(&proof, Prover::Branch, &client, &branch, "Delhi"));
        assert!(!key.is_proof(&proof, Prover::Client, &client, &branch, "Delhi"), "a reflected proof");
        assert!(!key.is_proof(&proof, Prover::Branch, &branch, &client, "Delhi"));
        assert!(!key.is_proof(&proof, Prover::Branch, &client, &branch, "Pune"));
        assert!(!key.is_proof(&proof, Prover::Branch, &[3; 32], &branch, "Delhi"), "a replayed proof");
        assert!(!BranchKey::from_bytes([8; 32]).is_proof(&proof, Prover::Branch, &client, &branch, "Delhi"));
        for wrong in ["", "00", "zz", &"0".repeat(64), &"g".repeat(64), &"é".repeat(32)] {
            assert!(!key.is_proof(wrong, Prover::Branch, &client, &branch, "Delhi"), "{wrong}");
        }
    }

    #[test]
    fn a_key_reads_back_and_never_shows() {
        let key = BranchKey::from_bytes([0xab; 32]);
        assert_eq!(format!("{}\n", key.to_text()).parse(), Ok(key.clone()));
        assert_eq!("short".parse::<BranchKey>(), Err(KeyError));
        assert!(!format!("{key:?}").contains("ab"));
    }
}

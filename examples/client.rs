//! A client of a branch on one page: it proves the bank's key, asks one thing, and prints the answer.
//!
//!     cargo run -p protocol --example client 127.0.0.1:9100 bank.key deposit '{"account_no":"1001","amount":100}'
//!
//! A write carries a request id, so that asking again after a lost answer can't do it twice: the same id, given as the last
//! argument, gets the answer that is stored with the effect. The exit status is 1 when the branch refuses, and 2 when nobody
//! knows what became of the request.

use std::error::Error;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use protocol::connection::{CallError, Connection};
use protocol::proof::{BranchKey, to_hex};
use protocol::request::Action;
use serde_json::Value;

fn main() -> ExitCode {
    match ask() {
        Ok(result) => println!("{result}"),
        Err(error) => {
            eprintln!("{error}");
            let is_refusal = error.downcast_ref().is_some_and(|error| matches!(error, CallError::Refused(_)));
            return ExitCode::from(if is_refusal { 1 } else { 2 });
        }
    }
    ExitCode::SUCCESS
}

fn ask() -> Result<Value, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, key_file, action, params, id @ ..] = arguments.as_slice() else {
        return Err("client HOST:PORT KEY_FILE ACTION PARAMS [REQUEST_ID]".into());
    };
    let action = Action::from_name(action).ok_or("there is no such action")?;
    let params: Value = serde_json::from_str(params)?;
    let key: BranchKey = fs::read_to_string(key_file)?.parse()?;
    // The branch proves the key first, over these random bytes, so a stranger in its place learns nothing.
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)?;
    let id = id.first().cloned().unwrap_or_else(|| to_hex(&nonce));

    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut branch = Connection::new(stream);
    branch.authenticate(&key, &nonce)?;
    Ok(branch.call(action, &params, Some(&id))?)
}

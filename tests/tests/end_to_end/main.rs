//! The built programs, end to end: each file is one subject, and a test's name is its claim.
//!
//! They are one program, so that they are linked once and run side by side. Each test has branches, ports and folders of
//! its own; what belongs to the whole process is left alone: the environment, the current directory, the user.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod access;
mod audit_all;
mod audits;
mod backup;
mod bad_input;
mod branch_protocol;
mod bridge_access;
mod bridge_events;
mod bridge_limits;
mod bridge_neighbours;
mod bridge_rest;
mod commands;
mod concurrency;
mod crash;
mod crash_points;
mod demo;
mod deployment;
mod discovery;
mod disk_failure;
mod documents;
mod encryption;
mod environment;
mod examples;
mod files;
mod frames;
mod golden_pair;
mod hostile_clients;
mod idle_clients;
mod in_doubt;
mod kept_events;
mod lab_model;
mod lab_port;
mod linearizability;
mod lockout;
mod log;
mod lost_promises;
mod older_databases;
mod one_coordinator;
mod prepared_money;
mod replication_epochs;
mod replication_following;
mod replication_hand_over;
mod replication_promotion;
mod replication_roles;
mod replication_safety;
mod request_ids;
mod scenarios;
mod scenarios_of_three;
mod sessions;
mod several_hosts;
mod shutdown;
mod slow_branches;
mod soak_strangers;
mod start_up;
mod suspense;
mod teaching;
mod test_files;
mod text_messages;
mod tidy;
mod torture;
mod transfers;
mod unawaited_answers;

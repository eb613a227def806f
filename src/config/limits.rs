use std::time::Duration;

use clap::Args;

use super::parse::{duration, size};

/// How much of everything there may be. Beyond it calls are refused, or connections closed.
#[derive(Args, Clone, Debug)]
pub struct Limits {
    /// How long a call may take whose caller doesn't say; feeds may take for ever
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_DEFAULT_DEADLINE",
        default_value = "30s",
        value_name = "TIME",
        value_parser = duration
    )]
    pub default_deadline: Duration,

    /// How long a call may take, whatever its caller says; feeds may take for ever
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_DEADLINE",
        default_value = "5m",
        value_name = "TIME",
        value_parser = duration
    )]
    pub max_deadline: Duration,

    /// How long a call may wait to be carried out where more than 128 wait, or some were refused in the last 100 ms:
    /// then it is refused as OVERLOADED. A sudden rush may wait for up to a second
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_QUEUE_TIME",
        default_value = "3ms",
        value_name = "TIME",
        value_parser = duration
    )]
    pub queue_time: Duration,

    /// How many calls may wait to be carried out, reads and writes each; of a known caller as many as it leaves free
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_QUEUE",
        default_value_t = 1000,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_queue: u32,

    /// How many may follow the feed of changes at once; a known caller as often as it leaves room for others
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_WATCHERS",
        default_value_t = 10_000,
        value_name = "NUMBER"
    )]
    pub max_watchers: u32,

    /// How many calls a second each caller may make, or each address where callers aren't known; calls that are refused
    /// because their caller isn't known count by address. Any number if it isn't given
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_RATE",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_rate: Option<u32>,

    /// How many connections there may be, at most as many as the limit of open files leaves
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_CONNECTIONS",
        default_value_t = 4096,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_connections: u32,

    /// How many connections there may be from one address (IPv6: from one /64), and of one known caller
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = 1024,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_connections_per_address: u32,

    /// How many calls there may be at once on one connection
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_STREAMS",
        default_value_t = 1000,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_streams: u32,

    /// How large the headers of a call may be
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_HEADER_SIZE",
        default_value = "16KiB",
        value_name = "SIZE",
        value_parser = size
    )]
    pub max_header_size: u64,

    /// How much memory requests and answers may take that are buffered at once: beyond it the largest connection is
    /// closed of the caller or address that has the most of it. Calls without credentials have an eighth more for
    /// themselves
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MESSAGE_MEMORY",
        default_value = "128MiB",
        value_name = "SIZE",
        value_parser = size
    )]
    pub message_memory: u64,
}

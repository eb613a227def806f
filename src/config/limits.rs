use std::time::Duration;

use clap::Args;

use super::parse::{duration, size};

/// Deadlines, queues, rates, connections and memory.
#[derive(Args, Clone, Debug)]
pub struct Limits {
    /// Deadline of calls without one; watch streams have no deadline
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_DEFAULT_DEADLINE",
        default_value = "30s",
        value_name = "TIME",
        value_parser = duration
    )]
    pub default_deadline: Duration,

    /// Maximum deadline of a call; watch streams have no deadline
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_DEADLINE",
        default_value = "5m",
        value_name = "TIME",
        value_parser = duration
    )]
    pub max_deadline: Duration,

    /// Maximum queueing time while overloaded (more than 128 queued, or a rejection in the last 100 ms); calls that
    /// would wait longer fail with OVERLOADED. A burst may wait up to one second
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_QUEUE_TIME",
        default_value = "3ms",
        value_name = "TIME",
        value_parser = duration
    )]
    pub queue_time: Duration,

    /// Maximum number of queued calls, for reads and writes each; an authenticated caller may use as many places as
    /// it leaves free for others
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_QUEUE",
        default_value_t = 1000,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_queue: u32,

    /// Maximum number of concurrent watchers; an authenticated caller may open as many as it leaves free for others
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_WATCHERS",
        default_value_t = 10_000,
        value_name = "NUMBER"
    )]
    pub max_watchers: u32,

    /// Maximum calls per second of each caller, or of each address if callers don't authenticate; calls that fail
    /// authentication count by address. Unlimited by default
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_RATE",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_rate: Option<u32>,

    /// Maximum number of connections; lowered at startup to what the limit of open files allows
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_CONNECTIONS",
        default_value_t = 4096,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_connections: u32,

    /// Maximum number of connections per address (IPv6: per /64 network), and per authenticated caller
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = 1024,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_connections_per_address: u32,

    /// Maximum number of concurrent calls per connection
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_STREAMS",
        default_value_t = 1000,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_streams: u32,

    /// Maximum size of a call's headers
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_HEADER_SIZE",
        default_value = "16KiB",
        value_name = "SIZE",
        value_parser = size
    )]
    pub max_header_size: u64,

    /// Memory limit of in-flight requests and responses: while it is exceeded, the largest connection of the caller
    /// or address that uses the most is closed. Calls without credentials have an extra eighth of it
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

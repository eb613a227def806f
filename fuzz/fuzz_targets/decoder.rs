//! Any bytes as a request, through the server's decoder with limits: it takes no more memory than is counted for it, and
//! what it decodes is what prost alone decodes. The first byte says which request, the second how often the rest of the
//! bytes is repeated, so that lists become long.
#![no_main]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeSet,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use group_service::{codec::RpcMessage, fuzzing, pb};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::FileDescriptorSet;

/// How long messages are at most.
const MAX_SIZE: usize = 256 << 10;
/// What a decoder takes for any message: its own state, its buffer at the start, errors with their details.
const OVERHEAD: usize = 64 << 10;
/// As much memory as there ever is, and so little that only the smallest requests are decoded.
const MEMORY: [u64; 2] = [1 << 30, fuzzing::MIN_CALL_BYTES];

/// Memory that is allocated now, and the most of it so far.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: all of it is done by the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = ALLOCATED.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) }
    }
}

macro_rules! requests {
    ($($request:ident)+) => {
        const REQUESTS: &[(&str, fn(&[u8]))] = &[
            $((stringify!($request), check::<pb::$request>)),+
        ];
    };
}

requests! {
    AssignUserRequest
    BatchAssignUsersRequest
    BatchCheckAccessRequest
    BatchUnassignUsersRequest
    CheckAccessRequest
    CreateGroupRequest
    CreateRoleRequest
    CreateUserRequest
    DeleteGroupRequest
    DeleteRoleRequest
    DeleteUserRequest
    GetGroupRequest
    GetRoleRequest
    GetUserRequest
    ListChangesRequest
    ListGroupsRequest
    ListRolesInGroupRequest
    ListRolesOfUserRequest
    ListRolesRequest
    ListUsersInGroupRequest
    ListUsersRequest
    ListUsersWithAccessRequest
    UnassignUserRequest
    UpdateGroupRequest
    UpdateRoleRequest
    UpdateUserRequest
    WatchChangesRequest
}

fuzz_target!(|data: &[u8]| {
    static ALL: Once = Once::new();
    ALL.call_once(no_request_is_missing);
    let [request, times, part @ ..] = data else {
        return;
    };
    let times = 1 << (times % 16);
    let mut message = part.repeat((MAX_SIZE / part.len().max(1)).clamp(1, times));
    message.truncate(MAX_SIZE);
    let (_, check) = REQUESTS[usize::from(*request) % REQUESTS.len()];
    check(&message);
});

fn check<T: RpcMessage + PartialEq + Send + 'static>(message: &[u8]) {
    let alone = T::decode(message);
    for memory in MEMORY {
        let before = ALLOCATED.load(Relaxed);
        PEAK.store(before, Relaxed);
        let (decoded, counted) = fuzzing::decode::<T>(message, memory);
        let peak = PEAK.load(Relaxed) - before;
        // The frame is here, in tonic's buffer, and in the one that it is moved to when that grows.
        let most = usize::try_from(counted).expect("64 bits") + 4 * message.len() + OVERHEAD;
        assert!(peak <= most, "{peak} bytes, of which {counted} are counted");
        assert!(counted <= memory, "{counted} of {memory} bytes");
        match (decoded, &alone) {
            (Ok(decoded), Ok(alone)) => assert!(decoded == *alone, "decoded otherwise"),
            (Ok(_), Err(error)) => panic!("decoded, although {error}"),
            // A list has an entry a byte at most.
            (Err(status), Ok(_)) => assert!(
                memory < MEMORY[0] || message.len() > fuzzing::MAX_ENTRIES,
                "refused: {status:?}"
            ),
            (Err(_), Err(_)) => {}
        }
    }
}

fn no_request_is_missing() {
    let set = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let services = set.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| &service.method);
    let requests: BTreeSet<_> = methods
        .filter_map(|method| method.input_type().rsplit('.').next())
        .collect();
    let known: BTreeSet<_> = REQUESTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, requests, "a request is missing here");
}

//! containerd's services and messages. `cargo xtask grpc` generates them from `proto/` into `api/`, and a
//! test of `grpc-code` shows that they are what it gives.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

pub mod types {
    include!("api/containerd.types.rs");
}

pub mod services {
    pub mod content {
        pub mod v1 {
            include!("api/containerd.services.content.v1.rs");
        }
    }
    pub mod diff {
        pub mod v1 {
            include!("api/containerd.services.diff.v1.rs");
        }
    }
    pub mod leases {
        pub mod v1 {
            include!("api/containerd.services.leases.v1.rs");
        }
    }
    pub mod snapshots {
        pub mod v1 {
            include!("api/containerd.services.snapshots.v1.rs");
        }
    }
}

pub use services::{
    content::v1 as content, diff::v1 as diff, leases::v1 as leases, snapshots::v1 as snapshots,
};

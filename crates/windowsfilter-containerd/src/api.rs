//! containerd's services and messages, generated from `proto/`.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

pub mod types {
    tonic::include_proto!("containerd.types");
}

pub mod services {
    pub mod content {
        pub mod v1 {
            tonic::include_proto!("containerd.services.content.v1");
        }
    }
    pub mod diff {
        pub mod v1 {
            tonic::include_proto!("containerd.services.diff.v1");
        }
    }
    pub mod leases {
        pub mod v1 {
            tonic::include_proto!("containerd.services.leases.v1");
        }
    }
    pub mod snapshots {
        pub mod v1 {
            tonic::include_proto!("containerd.services.snapshots.v1");
        }
    }
}

pub use services::{
    content::v1 as content, diff::v1 as diff, leases::v1 as leases, snapshots::v1 as snapshots,
};

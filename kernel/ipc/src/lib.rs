//! Descriptor-based communication: pipes, eventfd, epoll, timerfd, signalfd, inotify.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

//! What the suites share: starting real binaries on port 0, a cuttable proxy, peers.

//! The reason codes of MQTT 5 and which packet may carry which.
//!
//! One table, [`ReasonCode::is_allowed_in`]. 3.1.1 has return codes in CONNACK and SUBACK only; the packets that
//! carry them translate with [`ReasonCode::return_code_311`].

use crate::protocol::{PacketType, Qos};

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal in [$($packet:ident),+];)+) => {
        /// A reason code. Below 0x80 is success.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode { $($(#[$doc])* $name = $value,)+ }

        impl ReasonCode {
            /// The code of a byte; `None` where the standard defines none.
            pub const fn from_byte(byte: u8) -> Option<Self> {
                Some(match byte { $($value => ReasonCode::$name,)+ _ => return None })
            }

            /// Whether the standard lists the code for this packet.
            pub const fn is_allowed_in(self, packet: PacketType) -> bool {
                match self { $(ReasonCode::$name => matches!(packet, $(PacketType::$packet)|+),)+ }
            }
        }
    };
}

reason_codes! {
    /// Success; normal disconnection; granted QoS 0.
    Success = 0x00 in [Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth];
    /// Subscription granted at QoS 1.
    GrantedQos1 = 0x01 in [Suback];
    /// Subscription granted at QoS 2.
    GrantedQos2 = 0x02 in [Suback];
    /// The client leaves and wants its will published.
    DisconnectWithWill = 0x04 in [Disconnect];
    /// Accepted, but nobody is subscribed and nothing was stored.
    NoMatchingSubscribers = 0x10 in [Puback, Pubrec];
    /// UNSUBSCRIBE of a filter that was not subscribed.
    NoSubscriptionExisted = 0x11 in [Unsuback];
    /// Another step of enhanced authentication follows.
    ContinueAuthentication = 0x18 in [Auth];
    /// The client starts a re-authentication.
    Reauthenticate = 0x19 in [Auth];
    /// No reason is told, or none fits.
    Unspecified = 0x80 in [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    /// The packet can't be parsed.
    MalformedPacket = 0x81 in [Connack, Disconnect];
    /// The packet is not allowed here.
    ProtocolError = 0x82 in [Connack, Disconnect];
    /// Valid, but not accepted by this implementation.
    ImplementationSpecific = 0x83 in [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    /// The protocol level is not spoken here.
    UnsupportedProtocolVersion = 0x84 in [Connack];
    /// The client identifier is not accepted.
    ClientIdentifierNotValid = 0x85 in [Connack];
    /// Wrong user name or password.
    BadUserNameOrPassword = 0x86 in [Connack];
    /// Not permitted.
    NotAuthorized = 0x87 in [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    /// The server is not available.
    ServerUnavailable = 0x88 in [Connack];
    /// The server is busy; try again later.
    ServerBusy = 0x89 in [Connack, Disconnect];
    /// The client is banned.
    Banned = 0x8A in [Connack];
    /// The server shuts down.
    ServerShuttingDown = 0x8B in [Disconnect];
    /// The authentication method is not supported.
    BadAuthenticationMethod = 0x8C in [Connack, Disconnect];
    /// Nothing arrived for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D in [Disconnect];
    /// Another connection uses the same client identifier.
    SessionTakenOver = 0x8E in [Disconnect];
    /// The topic filter is not accepted.
    TopicFilterInvalid = 0x8F in [Suback, Unsuback, Disconnect];
    /// The topic name is not accepted.
    TopicNameInvalid = 0x90 in [Connack, Puback, Pubrec, Disconnect];
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91 in [Puback, Pubrec, Suback, Unsuback];
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92 in [Pubrel, Pubcomp];
    /// More unacknowledged messages than the receive maximum allows.
    ReceiveMaximumExceeded = 0x93 in [Disconnect];
    /// The topic alias is 0 or above the maximum.
    TopicAliasInvalid = 0x94 in [Disconnect];
    /// The packet is larger than accepted.
    PacketTooLarge = 0x95 in [Connack, Disconnect];
    /// The client sends too fast.
    MessageRateTooHigh = 0x96 in [Disconnect];
    /// A limit or a store is full.
    QuotaExceeded = 0x97 in [Connack, Puback, Pubrec, Suback, Disconnect];
    /// Closed by an administrator.
    AdministrativeAction = 0x98 in [Disconnect];
    /// The payload is not of the format its indicator says.
    PayloadFormatInvalid = 0x99 in [Connack, Puback, Pubrec, Disconnect];
    /// Retained messages are not supported.
    RetainNotSupported = 0x9A in [Connack, Disconnect];
    /// The QoS is not supported.
    QosNotSupported = 0x9B in [Connack, Disconnect];
    /// Use another server for now.
    UseAnotherServer = 0x9C in [Connack, Disconnect];
    /// Use another server from now on.
    ServerMoved = 0x9D in [Connack, Disconnect];
    /// Shared subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E in [Suback, Disconnect];
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9F in [Connack, Disconnect];
    /// The connection has lasted as long as it may.
    MaximumConnectTime = 0xA0 in [Disconnect];
    /// Subscription identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1 in [Suback, Disconnect];
    /// Wildcard subscriptions are not supported.
    WildcardSubscriptionsNotSupported = 0xA2 in [Suback, Disconnect];
}

impl ReasonCode {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Whether the code tells a failure.
    pub const fn is_error(self) -> bool {
        self.byte() >= 0x80
    }

    /// The SUBACK code of a granted subscription.
    pub const fn granted(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => ReasonCode::Success,
            Qos::AtLeastOnce => ReasonCode::GrantedQos1,
            Qos::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }

    /// The CONNACK return code of 3.1.1 nearest to this code (0 to 5).
    pub const fn return_code_311(self) -> u8 {
        match self {
            ReasonCode::Success => 0x00,
            ReasonCode::UnsupportedProtocolVersion => 0x01,
            ReasonCode::ClientIdentifierNotValid => 0x02,
            // Stock answers bad credentials with 5 as well.
            ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => 0x05,
            _ => 0x03,
        }
    }
}

//! Scripts of a session: `attach window=N receive=N`, `detach`; outbound `send`, `resend`, `puback`, `pubrec`, `pubcomp`,
//! `restore`; inbound `publish`, `acknowledged`, `received`, `refused`, `pubrel`, `released`.

use std::error::Error;

use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use crate::protocol::{PacketId, Qos};
use crate::session::{Session, SessionExpiry};

struct SessionRunner {
    session: Session,
}

impl Runner for SessionRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let said = match command.name.as_str() {
            "attach" | "detach" | "new" => self.connect(&command.name, &mut args)?,
            "send" | "resend" | "restore" | "puback" | "pubrec" | "pubcomp" | "abandon" => {
                self.outbound(&command.name, &mut args)?
            }
            name => self.inbound(name, &mut args)?,
        };
        args.reject_next()?;
        Ok(format!("{said}\n"))
    }
}

fn number<T: std::str::FromStr>(args: &mut ArgumentConsumer<'_>) -> Result<T, Box<dyn Error>> {
    args.next_pos().ok_or("a number is missing")?.parse().map_err(|_| "not a number".into())
}

fn packet_id(args: &mut ArgumentConsumer<'_>) -> Result<PacketId, Box<dyn Error>> {
    PacketId::new(number(args)?).ok_or("identifier 0".into())
}

fn qos(args: &mut ArgumentConsumer<'_>) -> Result<Qos, Box<dyn Error>> {
    Qos::from_bits(args.take_key("qos").ok_or("no qos")?.parse()?).ok_or("no such QoS".into())
}

impl SessionRunner {
    fn connect(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        match name {
            "attach" => {
                let window = args.take_key("window").unwrap_or("20").parse()?;
                let receive = args.take_key("receive").unwrap_or("20").parse()?;
                self.session.attach(window, receive, SessionExpiry::Never);
            }
            "detach" => self.session.detach(),
            _ => self.session = Session::new(number(args)?, SessionExpiry::Never),
        }
        Ok("ok".to_owned())
    }

    fn outbound(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        let outbound = &mut self.session.outbound;
        let said = match name {
            "send" => {
                let qos = qos(args)?;
                format!("{:?}", outbound.send(number(args)?, qos).map(PacketId::value))
            }
            "resend" => format!("{:?}", outbound.next_resend()),
            "restore" => {
                let qos = qos(args)?;
                let released = args.take_key("released").is_some();
                format!("{:?}", outbound.restore(number(args)?, qos, released))
            }
            "abandon" => format!("{:?}", outbound.abandon(number(args)?)),
            "puback" => format!("{:?}", outbound.handle_puback(packet_id(args)?)),
            "pubrec" => {
                let is_error = args.take_key("error").is_some();
                format!("{:?}", outbound.handle_pubrec(packet_id(args)?, is_error))
            }
            _ => format!("{:?}", outbound.handle_pubcomp(packet_id(args)?)),
        };
        Ok(format!("{said}   open {} from {}", outbound.open_count(), outbound.oldest_open()))
    }

    fn inbound(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        let inbound = &mut self.session.inbound;
        let said = match name {
            "publish" => {
                let qos = qos(args)?;
                let id = if qos == Qos::AtMostOnce { None } else { Some(packet_id(args)?) };
                format!("{:?}", inbound.handle_publish(qos, id))
            }
            "acknowledged" => format!("{:?}", inbound.acknowledged()),
            "refused" => format!("{:?}", inbound.refused(packet_id(args)?)),
            "received" => format!("{:?}", inbound.received(packet_id(args)?)),
            "pubrel" => format!("{:?}", inbound.handle_pubrel(packet_id(args)?)),
            "released" => format!("{:?}", inbound.released(packet_id(args)?)),
            "kept" => {
                inbound.restore(packet_id(args)?);
                "ok".to_owned()
            }
            other => return Err(format!("no command: {other}").into()),
        };
        Ok(format!("{said}   open {}", inbound.open_count()))
    }
}

#[test]
fn scripts() {
    super::run_scripts("session", || SessionRunner { session: Session::new(0, SessionExpiry::Never) });
}

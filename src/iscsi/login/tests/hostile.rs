use super::*;
use crate::iscsi::login::stages::REQUESTS_MAX;

#[test]
fn a_login_without_end() {
    let mut talk = Talk::new(Control::open());
    let _ = talk.say(0x00, NAMES);
    for _ in 1..REQUESTS_MAX {
        let _ = talk.say(0x00, "");
    }
    assert_eq!(talk.refused(&request(0x00, "")), ([2, 0], Why::TooManyRequests));
}

#[test]
fn text_without_end() {
    let mut talk = Talk::new(Control::open());
    let piece = "x".repeat(8192);
    for _ in 0..8 {
        let _ = talk.say(0x40, &piece);
    }
    assert_eq!(talk.refused(&request(0x40, "x")), ([2, 0], Why::Text(TextError::TooLong)));
}

/// xorshift64*; the seed is not 0.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

#[test]
fn noise_is_survived_in_bounded_memory() {
    let flags = [0x00, 0x81, 0x83, 0x04, 0x87, 0x40, 0x44];
    let texts = [
        NAMES,
        "AuthMethod=CHAP,None;",
        "CHAP_A=5;",
        "CHAP_N=user;CHAP_R=0xa11224bfb5f92f9e3ea601ae0f73e46c;",
        "CHAP_I=7;CHAP_C=0bAAAA;",
        "FirstBurstLength=0x200;InitialR2T=No;",
        "X-y=;SendTargets=All;",
        "",
    ];
    let mut established = 0;
    for seed in 1..20_000 {
        let mut noise = Noise(seed);
        let mut talk = Talk::new(Control::chap(|policy| policy.is_required = seed % 2 == 0));
        for _ in 0..8 {
            let mut text = texts[noise.below(texts.len())].to_owned();
            if noise.below(4) == 0 {
                text += texts[noise.below(texts.len())];
            }
            let mut bytes = request(flags[noise.below(flags.len())], &text);
            for _ in 0..noise.below(4).saturating_sub(1) {
                let at = noise.below(bytes.len());
                bytes[at] = noise.byte();
            }
            let (head, tail) = bytes.split_at(noise.below(bytes.len()));
            let _ = talk.send(head);
            match talk.send(tail) {
                Progress::More => {}
                Progress::Established => {
                    established += 1;
                    break;
                }
                Progress::Refused(_) | Progress::Closed(_) => break,
            }
        }
        assert!(talk.login.outgoing().len() < 8 * (8192 + 48));
        let is_open = talk.login.granted().is_some();
        talk.login.sent(usize::MAX);
        if is_open && seed % 2 == 0 {
            // Whatever happened before, it was by way of CHAP.
            let proof = talk.login.into_established().unwrap().proof;
            assert!(matches!(proof, Proof::Chap { user, .. } if user == "user"));
        }
    }
    assert!(established > 100, "the noise reaches the end: {established}");
}

#[test]
fn pure_noise() {
    for seed in 1..5_000 {
        let mut noise = Noise(seed);
        let mut talk = Talk::new(Control::open());
        for _ in 0..4 {
            let mut bytes: Vec<u8> = (0..noise.below(200)).map(|_| noise.byte()).collect();
            if let Some(first) = bytes.first_mut().filter(|_| seed % 2 == 0) {
                *first = 0x43;
            }
            let _ = talk.send(&bytes);
        }
        assert!(talk.login.outgoing().len() <= 4 * (8192 + 48));
    }
}

// Package crypto holds everything Sallyport does with keys. It adds no cryptography
// of its own: encryption is age (age-encryption.org/v1, through filippo.io/age), and
// signatures are SSH signatures (PROTOCOL.sshsig of OpenSSH), so that stock age and
// stock ssh-keygen read whatever it writes.
//
// Power is a type here. A [Sealer] can only encrypt and an [Opener] can only decrypt;
// a [Signer] can only sign and a [Verifier] can only check. Code that is handed one
// of them cannot do what the others can.
//
// Passphrases are never asked for: a passphrase cannot be given by a timer, so
// recipients and identities made of one are refused, as are encrypted key files. Plug-in
// keys (YubiKey, HSM, KMS) go through age's plug-in protocol and SSH keys on hardware
// through ssh-agent; both talk to the person at the terminal themselves.
package crypto

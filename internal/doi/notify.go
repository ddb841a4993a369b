package doi

// Notify is a notify message type (RFC 2408 section 3.14.1, RFC 2407 section
// 4.6.3, RFC 3706 section 3). Types up to 16383 report errors.
type Notify uint16

// Error notifications.
const (
	NotifyInvalidPayloadType      Notify = 1
	NotifyDOINotSupported         Notify = 2
	NotifySituationNotSupported   Notify = 3
	NotifyInvalidCookie           Notify = 4
	NotifyInvalidMajorVersion     Notify = 5
	NotifyInvalidMinorVersion     Notify = 6
	NotifyInvalidExchangeType     Notify = 7
	NotifyInvalidFlags            Notify = 8
	NotifyInvalidMessageID        Notify = 9
	NotifyInvalidProtocolID       Notify = 10
	NotifyInvalidSPI              Notify = 11
	NotifyInvalidTransformID      Notify = 12
	NotifyAttributesNotSupported  Notify = 13
	NotifyNoProposalChosen        Notify = 14
	NotifyBadProposalSyntax       Notify = 15
	NotifyPayloadMalformed        Notify = 16
	NotifyInvalidKeyInformation   Notify = 17
	NotifyInvalidIDInformation    Notify = 18
	NotifyInvalidCertEncoding     Notify = 19
	NotifyInvalidCertificate      Notify = 20
	NotifyCertTypeUnsupported     Notify = 21
	NotifyInvalidCertAuthority    Notify = 22
	NotifyInvalidHashInformation  Notify = 23
	NotifyAuthenticationFailed    Notify = 24
	NotifyInvalidSignature        Notify = 25
	NotifyAddressNotification     Notify = 26
	NotifySALifetime              Notify = 27
	NotifyCertificateUnavailable  Notify = 28
	NotifyUnsupportedExchangeType Notify = 29
	NotifyUnequalPayloadLengths   Notify = 30
	NotifyConnected               Notify = 16384
	NotifyResponderLifetime       Notify = 24576
	NotifyReplayStatus            Notify = 24577
	NotifyInitialContact          Notify = 24578
	NotifyDPDRUThere              Notify = 36136
	NotifyDPDRUThereAck           Notify = 36137
)

// IsError tells whether n reports an error (RFC 2408 section 3.14.1).
func (n Notify) IsError() bool { return n > 0 && n < 16384 }

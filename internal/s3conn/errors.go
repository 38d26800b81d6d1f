package s3conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dwp/sallyport/internal/retry"
)

// What an [Error] is, for errors.Is. Not found is [fs.ErrNotExist].
var (
	ErrDenied        = errors.New("access denied")
	ErrCredentials   = errors.New("the server refused the credentials")
	ErrArchived      = errors.New("object is in an archive tier")
	ErrCustomerKey   = errors.New("object is encrypted with a customer's key")
	ErrKMS           = errors.New("the object's KMS key cannot be used")
	ErrPrecondition  = errors.New("precondition failed")
	ErrConflict      = errors.New("conflicting operation in progress")
	ErrUnsupported   = errors.New("not implemented by the server")
	ErrLocked        = errors.New("protected by object lock")
	ErrRedirect      = errors.New("the server redirects to another place")
	ErrMethod        = errors.New("method not allowed on this resource") // a delete marker, read
	ErrRange         = errors.New("range not satisfiable")
	ErrBadAnswer     = errors.New("answer violates the protocol")
	ErrTemporary     = errors.New("temporary failure")
	ErrNoSuchBucket  = errors.New("no such bucket")
	ErrNotConfigured = errors.New("not configured") // a part of a bucket's or object's configuration
)

// An Error is an answer of a server that is not what was asked for. Its text is
// safe for terminals and logs and is at most 4 KiB long.
type Error struct {
	Op         string // "GET object"
	Status     int    // of HTTP
	Code       string // of S3, or empty
	Message    string // the server's words, escaped and cut
	RequestID  string
	RetryAfter time.Duration // zero if the server did not say
	Kind       error         // one of the sentinels above or fs.ErrNotExist; nil if none fits
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: status %d", e.Op, e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Kind != nil {
		b.WriteString(" (" + e.Kind.Error() + ")")
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Kind }

// maxErrorText bounds what is kept of a server's own words.
const maxErrorText = 4 << 10

// newError reads an error answer whose body has been cut already.
func newError(op string, status int, h http.Header, body []byte, now time.Time) *Error {
	e := &Error{Op: op, Status: status, RequestID: clean(h.Get("X-Amz-Request-Id"), 128)}
	e.RetryAfter, _ = retry.After(h.Get("Retry-After"), now)
	var x struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
	}
	if len(body) > 0 && xml.Unmarshal(bytes.Map(legible, body), &x) == nil {
		e.Code, e.Message = clean(x.Code, 128), clean(x.Message, maxErrorText-512)
		if e.RequestID == "" {
			e.RequestID = clean(x.RequestID, 128)
		}
	} else {
		e.Message = clean(string(body), maxErrorText-512)
	}
	if e.Code == "" {
		e.Code = clean(h.Get("X-Minio-Error-Code"), 128)
	}
	e.Kind = classify(status, e.Code, x.Message)
	return e
}

// legible replaces what XML does not allow: some servers quote a key as it is, and the
// code beside it must not be lost for that.
func legible(r rune) rune {
	if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
		return '?'
	}
	return r
}

// classify maps an answer to a sentinel. Codes are those of the S3 API reference,
// "List of error codes"; the bare status decides where HEAD has no body.
func classify(status int, code, message string) error {
	switch code {
	case "NoSuchBucket":
		return ErrNoSuchBucket
	case "NoSuchKey", "NoSuchVersion", "NoSuchUpload", "NotFound":
		return fs.ErrNotExist
	case "NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchCORSConfiguration", "NoSuchTagSet", "NoSuchTagSetError",
		"ServerSideEncryptionConfigurationNotFoundError", "ReplicationConfigurationNotFoundError",
		"ObjectLockConfigurationNotFoundError", "OwnershipControlsNotFoundError", "NoSuchPublicAccessBlockConfiguration",
		"NoSuchWebsiteConfiguration", "NoSuchObjectLockConfiguration", "NoSuchConfiguration":
		return ErrNotConfigured
	case "InvalidObjectState":
		return ErrArchived
	case "PreconditionFailed":
		return ErrPrecondition
	case "BucketNotEmpty", "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "InvalidBucketState":
		return nil // a 409 that waiting does not change
	case "ConditionalRequestConflict", "OperationAborted":
		return ErrConflict
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId",
		"SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp", "AccountProblem", "RequestTimeTooSkewed",
		"AuthorizationHeaderMalformed", "InvalidClientTokenId":
		return ErrCredentials
	case "NotImplemented", "XNotImplemented":
		return ErrUnsupported
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException",
		"RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded", "SlowDownRead", "SlowDownWrite":
		return ErrTemporary
	case "ObjectLocked", "InvalidRetentionPeriod", "AccessDeniedByObjectLock":
		return ErrLocked
	case "MethodNotAllowed":
		return ErrMethod
	case "InvalidRange":
		return ErrRange
	case "PermanentRedirect", "TemporaryRedirect", "Redirect":
		return ErrRedirect
	}
	lower := strings.ToLower(message)
	switch {
	case strings.HasPrefix(code, "KMS."), status == http.StatusForbidden && strings.Contains(lower, "kms"):
		return ErrKMS
	case status == http.StatusBadRequest && (strings.Contains(lower, "server side encryption") ||
		strings.Contains(lower, "server-side encryption") || strings.Contains(lower, "customer key")):
		return ErrCustomerKey
	case code == "InvalidRequest" && strings.Contains(lower, "missing object lock configuration"):
		return ErrNotConfigured
	case status == http.StatusForbidden && strings.Contains(lower, "object lock"),
		status == http.StatusForbidden && strings.Contains(lower, "object protected"):
		return ErrLocked
	}
	switch {
	case status >= 300 && status < 400 && status != http.StatusNotModified:
		return ErrRedirect
	case status == http.StatusUnauthorized:
		return ErrCredentials
	case status == http.StatusForbidden:
		return ErrDenied
	case status == http.StatusNotFound:
		return fs.ErrNotExist
	case status == http.StatusMethodNotAllowed:
		return ErrMethod
	case status == http.StatusConflict:
		return ErrConflict
	case status == http.StatusPreconditionFailed:
		return ErrPrecondition
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrRange
	case status == http.StatusNotImplemented:
		return ErrUnsupported
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return ErrTemporary
	}
	return nil
}

// retryable says whether the same request may succeed when sent again.
func retryable(err error) bool {
	var e *Error
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &e):
		return errors.Is(e.Kind, ErrTemporary) || errors.Is(e.Kind, ErrConflict)
	case errors.Is(err, context.Canceled), errors.Is(err, ErrBadAnswer), errors.Is(err, ErrCredentials), errors.Is(err, errPermanent):
		return false
	case errors.As(err, &cert), errors.As(err, &host), errors.As(err, &authority):
		return false
	}
	return true // no answer: a lost connection, a timeout
}

// errPermanent marks failures before anything was sent.
var errPermanent = errors.New("refused")

// clean makes text of a server safe for terminals and logs, and cuts it to about n
// bytes.
func clean(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= n {
			b.WriteString("… (cut)")
			break
		}
		switch {
		case r == utf8.RuneError:
			b.WriteString(`\ufffd`)
		case r == '\\' || !unicode.IsPrint(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

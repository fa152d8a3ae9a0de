// Package wire makes payloads and reads their routes.
package wire

import (
	"encoding/binary"

	"github.com/rsocket/rsocket-go/extension"
	"github.com/rsocket/rsocket-go/payload"
)

// Composite and Octets are the types of metadata and data.
const (
	Composite = "message/x.rsocket.composite-metadata.v0"
	Octets    = "application/octet-stream"
)

// Metadata is composite metadata with the route and, where wanted, texts.
func Metadata(route string, texts ...string) []byte {
	tags, err := extension.EncodeRouting(route)
	if err != nil {
		panic(err)
	}
	builder := extension.NewCompositeMetadataBuilder().PushWellKnown(extension.MessageRouting, tags)
	for _, text := range texts {
		builder.PushWellKnownString(extension.TextPlain, text)
	}
	composite, err := builder.Build()
	if err != nil {
		panic(err)
	}
	return composite
}

// Simple is composite metadata with a name and a password.
func Simple(name, password string) []byte {
	// The library encodes what is around them, and leaves this to its users.
	content := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
	return authentication("simple", append(append(content, name...), password...))
}

// Bearer is composite metadata with a token.
func Bearer(token string) []byte { return authentication("bearer", []byte(token)) }

func authentication(kind string, content []byte) []byte {
	bytes := extension.MustNewAuthentication(kind, content).Bytes()
	composite, err := extension.NewCompositeMetadataBuilder().
		PushWellKnown(extension.MessageAuthentication, bytes).Build()
	if err != nil {
		panic(err)
	}
	return composite
}

// RoutedJSON is composite metadata with the route, where it is not empty, and JSON.
func RoutedJSON(route, json string) []byte {
	builder := extension.NewCompositeMetadataBuilder()
	if route != "" {
		tags, err := extension.EncodeRouting(route)
		if err != nil {
			panic(err)
		}
		builder.PushWellKnown(extension.MessageRouting, tags)
	}
	composite, err := builder.PushWellKnownString(extension.ApplicationJSON, json).Build()
	if err != nil {
		panic(err)
	}
	return composite
}

// JSON is the content of the first entry of JSON; nil where there is none.
func JSON(metadata []byte) []byte {
	scanner := extension.NewCompositeMetadataBytes(metadata).Scanner()
	for scanner.Scan() {
		mime, content, err := scanner.Metadata()
		if err != nil {
			return nil
		}
		if mime == extension.ApplicationJSON.String() {
			return content
		}
	}
	return nil
}

// Routed is a payload for a route.
func Routed(route, data string) payload.Payload {
	return payload.New([]byte(data), Metadata(route))
}

// Route is the first routing tag; "echo" where there is none, as in rsockd.
func Route(request payload.Payload) string {
	metadata, ok := request.Metadata()
	if !ok {
		return "echo"
	}
	scanner := extension.NewCompositeMetadataBytes(metadata).Scanner()
	for scanner.Scan() {
		mime, content, err := scanner.Metadata()
		if err != nil {
			break
		}
		if mime == extension.MessageRouting.String() {
			if tags, err := extension.ParseRoutingTags(content); err == nil && len(tags) > 0 {
				return tags[0]
			}
		}
	}
	return "echo"
}

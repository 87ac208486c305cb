package configs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func attributesOf(t *testing.T, text string) []CustomAttribute {
	t.Helper()
	c, err := parse("key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers:\n  a:\n    session_api:\n      custom_attributes:\n        - " + text + "\n")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c.AuthorizationServers["a"].SessionAPI.CustomAttributes
}

func TestSourcesOfCustomAttributesAreTaken(t *testing.T) {
	sources := []string{"user_agent", "client_address", "header:X-Country", "header:Accept-Language", "header:sec-ch-ua-platform", "header:X_Device"}
	for _, claim := range ClaimSources() {
		sources = append(sources, "claim:"+claim)
	}
	for _, source := range sources {
		if got := attributesOf(t, "{name: x, source: "+source+"}")[0]; got != (CustomAttribute{"x", sourcedPattern, false, source}) {
			t.Errorf("%s gives %+v", source, got)
		}
	}
}

func TestSourceDecidesTheDefaultsOfAnAttribute(t *testing.T) {
	for text, want := range map[string]CustomAttribute{
		"{name: x}":                                            {"x", ".{1,200}", true, ""},
		"{name: x, source: }":                                  {"x", ".{1,200}", true, ""},
		"{name: x, source: ''}":                                {"x", ".{1,200}", true, ""},
		"{name: x, updatable: }":                               {"x", ".{1,200}", true, ""},
		"{name: x, source: user_agent}":                        {"x", sourcedPattern, false, "user_agent"},
		"{name: x, source: user_agent, updatable: }":           {"x", sourcedPattern, false, "user_agent"},
		"{name: x, source: user_agent, updatable: false}":      {"x", sourcedPattern, false, "user_agent"},
		"{updatable: true, name: x, source: user_agent}":       {"x", sourcedPattern, true, "user_agent"},
		"{name: x, source: user_agent, pattern: '[A-Z]{2}'}":   {"x", "[A-Z]{2}", false, "user_agent"},
		"{name: x, source: 'claim:locale', pattern: '.{1,9}'}": {"x", ".{1,9}", false, "claim:locale"},
	} {
		if got := attributesOf(t, text)[0]; got != want {
			t.Errorf("%s gives %+v, want %+v", text, got, want)
		}
	}
}

func TestFaultySourcesHaveTheirPlace(t *testing.T) {
	message := func(source string) string {
		_, err := parse("key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers:\n  a: {session_api: {custom_attributes: [{name: x, source: " + source + "}]}}\n")
		if err == nil {
			return ""
		}
		const at = "gatehouse.yaml:3:59: authorization_servers.a.session_api.custom_attributes[0].source: "
		text, here := strings.CutPrefix(err.Error(), at)
		if !here || strings.Contains(text, "\n") {
			t.Errorf("source %s: %v, want one fault at %s", source, err, at)
		}
		return text
	}
	for part, sources := range map[string][]string{
		"must be user_agent, client_address": {"cookie", "User_Agent", "user_agent:", "claim", "header", "' header:X'", "Header:X", "'user_agent,client_address'", "peer", "x:y", "''':'''"},
		"claim: must be followed by":         {"'claim:'", "'claim:email '", "claim:sub", "claim:Email", "claim:email_verified", "claim:updated_at", "claim:address", "claim:address.city", "claim:password", "claim:email.x"},
		"header: must be followed by":        {"'header:'", "'header:X Y'", "'header:X:Y'", "'header: X'", "'header:X\\r'", "'header:Zürich'", "'header:X(Y)'", "header:" + strings.Repeat("x", 101), `"header:X\nY"`},
		"carries credentials": {"header:Authorization", "header:authorization", "header:Proxy-Authorization", "header:X-Forwarded-Authorization", "header:Cookie", "header:COOKIE", "header:Set-Cookie",
			"header:Cookie2", "header:DPoP", "header:X-Auth-Token", "header:X-Api-Key", "header:X-APIKEY", "header:X-CSRF-Token", "header:X-Goog-IAP-JWT-Assertion", "header:X-Forwarded-Access-Token",
			"header:X-Session-Id", "header:X-SSL-Client-Cert", "header:X-Amzn-Oidc-Data", "header:X-Client-Secret", "header:Signature"},
		"carries the URL":               {"header:Referer", "header:X-Original-URL", "header:X-Forwarded-Uri"},
		"use client_address":            {"header:X-Forwarded-For", "header:Forwarded", "header:x-real-ip", "header:True-Client-IP"},
		"must be user_agent":            {"header:User-Agent"},
		"not passed on":                 {"header:Host", "header:Transfer-Encoding"},
		"must be a string":              {"1", "true", "[user_agent]", "{claim: email}"},
		"refers to the environment var": {"'header:${UNSET}'"},
	} {
		for _, source := range sources {
			if strings.HasPrefix(source, "[") || strings.HasPrefix(source, "{") {
				if _, err := parse("key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers: {a: {session_api: {custom_attributes: [{name: x, source: " + source + "}]}}}\n"); err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("source %s: %v", source, err)
				}
				continue
			}
			if got := message(source); !strings.Contains(got, part) {
				t.Errorf("source %s: %q, want %q", source, got, part)
			}
		}
	}
	if got := message("hunter2"); strings.Contains(got, "hunter2") {
		t.Errorf("the fault repeats the value: %s", got)
	}
}

// The schema's description repeats the default pattern in words.
func TestDefaultPatternOfSourcesAdmitsWhatItSays(t *testing.T) {
	pattern := regexp.MustCompile(`^(?:` + sourcedPattern + `)$`)
	for text, want := range map[string]bool{"Zürich (CH), 5 €!": true, strings.Repeat("é", 500): true, "": false, strings.Repeat("x", 501): false, "a\tb": false, "a\u00a0b": false} {
		if pattern.MatchString(text) != want {
			t.Errorf("%.20q matches: %t", text, !want)
		}
	}
	if text := fmt.Sprint(descriptions["CustomAttribute.pattern"]); !strings.Contains(text, "500") {
		t.Error(text)
	}
}

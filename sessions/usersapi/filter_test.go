package usersapi

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/sessions"
)

// written is a filter's conditions in a form that can be compared.
func written(conditions []sessions.Condition) string {
	var out []string
	for _, c := range conditions {
		if c.Time.IsZero() {
			out = append(out, fmt.Sprintf("%s %s %q", c.By, c.Operator, c.Text))
		} else {
			out = append(out, fmt.Sprintf("%s %s %d", c.By, c.Operator, c.Time.UnixMilli()))
		}
	}
	return strings.Join(out, " & ")
}

func TestFilters(t *testing.T) {
	for filter, want := range map[string]string{
		"loginId eq alex":                             `username eq "alex"`,
		"  LOGINID   EQ   alex  ":                     `username eq "alex"`,
		"sessionId sw 82cd":                           `id sw "82cd"`,
		"appName ew Album":                            `application ew "Album"`,
		"userAgent co Mozilla/5.0 (X11; Linux":        `user agent co "Mozilla/5.0 (X11; Linux"`,
		"ipAddress eq 2001:db8::1":                    `address eq "2001:db8::1"`,
		"loginTime le 1574535591876":                  `created le 1574535591876`,
		"lastAccessTime GE 0":                         `last access ge 0`,
		"appName eq a and loginTime ge 1":             `application eq "a" & created ge 1`,
		"appName eq a AND ipAddress eq 192.0.2.1":     `application eq "a" & address eq "192.0.2.1"`,
		`appName eq "Rock and Roll" and loginId eq x`: `application eq "Rock and Roll" & username eq "x"`,
		`appName eq "a \"b\" \\c"`:                    `application eq "a \"b\" \\c"`,
		`appName eq "a"   and   loginId sw b`:         `application eq "a" & username sw "b"`,
		"appName eq android":                          `application eq "android"`,
		"appName eq land and sea":                     "",
		`appName co a"b`:                              `application co "a\"b"`,
		"":                                            "",
		"   ":                                         "",
		"loginId":                                     "",
		"loginId eq":                                  "",
		"loginId eq ":                                 "",
		`loginId eq ""`:                               "",
		`loginId eq "alex`:                            "",
		`loginId eq "alex\`:                           "",
		`loginId eq "alex"x`:                          "",
		`loginId eq "alex" or`:                        "",
		`loginId eq "a"x and appName eq b`:            "",
		`loginId eq "a"and appName eq b`:              "",
		"loginId ne alex":                             "",
		"loginId le 5":                                "",
		"ipAddress sw 192":                            "",
		"loginTime eq 5":                              "",
		"loginTime le x":                              "",
		"loginTime le -5":                             "",
		"loginTime le 99999999999999999999":           "",
		"loginTime le 9999999999999":                  "",
		"password co a":                               "",
		"userId eq a":                                 "",
		"loginId eq a and":                            "",
		"loginId eq a and ":                           "",
		"and loginId eq a":                            "",
		"loginId eq a or loginId eq b":                `username eq "a or loginId eq b"`,
		"(loginId eq a)":                              "",
		"loginId\teq\ta":                              "",
		"loginId eq a\x00":                            "",
		"loginId eq \xff":                             "",
		"loginId eq " + strings.Repeat("a", 2048):     "",
		strings.Repeat("loginId eq a and ", 15) + "loginId eq a": strings.Repeat(`username eq "a" & `, 15) + `username eq "a"`,
		strings.Repeat("loginId eq a and ", 16) + "loginId eq a": "",
	} {
		conditions, fault := parseFilter(filter)
		if got := written(conditions); (fault == "") != (want != "") || (fault == "" && got != want) {
			t.Errorf("%q is %s, fault %q; want %s", filter, got, fault, want)
		}
	}
}

// FuzzFilter: whatever a filter is, it is refused or read as conditions that a
// store can take, and what was read can be written and read again.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"loginId eq a", `appName co "x\"" and loginTime ge 5`, "userAgent sw a and  and", `ipAddress eq "1" and `, `loginId eq "a`, `loginId eq "a" `, "loginId eq a and appName"} {
		f.Add(seed)
	}
	names := map[string]string{sessions.ByUsername: "loginId", sessions.ByEntryID: "sessionId", sessions.ByApplication: "appName",
		sessions.ByUserAgent: "userAgent", sessions.ByAddress: "ipAddress", sessions.ByCreated: "loginTime", sessions.ByLastAccess: "lastAccessTime"}
	f.Fuzz(func(t *testing.T, filter string) {
		conditions, fault := parseFilter(filter)
		if fault != "" {
			if conditions != nil {
				t.Fatalf("%q is refused (%s) and has conditions", filter, fault)
			}
			return
		}
		if len(conditions) == 0 || len(conditions) > sessions.MaxConditions {
			t.Fatalf("%q has %d conditions", filter, len(conditions))
		}
		var again []string
		for _, c := range conditions {
			if c.Time.IsZero() == (c.Text == "") {
				t.Fatalf("%q: %+v", filter, c)
			}
			value := fmt.Sprint(c.Time.UnixMilli())
			if c.Time.IsZero() {
				value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.Text) + `"`
			}
			again = append(again, names[c.By]+" "+c.Operator+" "+value)
		}
		text := strings.Join(again, " and ")
		if len(text) > maxFilter {
			return
		}
		second, fault := parseFilter(text)
		if fault != "" || written(second) != written(conditions) {
			t.Fatalf("%q became %q, which is %s (%s)", filter, text, written(second), fault)
		}
	})
}

package users_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"gatehouse.dev/gatehouse/users"
)

// people is a Store of a test.
type people map[string]*users.User

func (p people) User(context.Context, string) (*users.User, error) { return nil, users.ErrNotFound }
func (p people) UserByName(_ context.Context, key string) (*users.User, error) {
	if key == "broken" {
		return nil, errors.New("disk on fire")
	}
	if u, ok := p[key]; ok {
		c := *u
		return &c, nil
	}
	return nil, users.ErrNotFound
}
func (p people) Users(context.Context, string, int) ([]users.User, error) { return nil, nil }
func (p people) InsertUser(context.Context, *users.User) error            { return users.ErrExists }
func (p people) UnlockUser(context.Context, string) error                 { return users.ErrNotFound }
func (p people) UpgradePassword(_ context.Context, id, old, phc string) error {
	for _, u := range p {
		if u.ID == id && u.Password == old {
			u.Password = phc
		}
	}
	return nil
}

func newPasswords(t *testing.T, concurrency int) *users.Passwords {
	t.Helper()
	p, err := users.NewPasswords(concurrency)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAuthenticateRefuses(t *testing.T) {
	p := newPasswords(t, 2)
	phc, err := p.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	store := people{
		"alex":   {ID: "1", Username: "Alex", Password: phc},
		"locked": {ID: "2", Username: "locked", Password: phc, LockedAt: time.Unix(1, 0)},
		"nopass": {ID: "3", Username: "nopass"},
	}
	for _, c := range []struct {
		name, username, password string
		want                     error
	}{
		{"right", "alex", "correct horse", nil},
		{"in other letters", " ALEX ", "correct horse", nil},
		{"wrong password", "alex", "correct horsf", users.ErrCredentials},
		{"empty password", "alex", "", users.ErrCredentials},
		{"other letters in the password", "alex", "Correct horse", users.ErrCredentials},
		{"blank after the password", "alex", "correct horse ", users.ErrCredentials},
		{"unknown user", "nobody", "correct horse", users.ErrCredentials},
		{"no user name", "", "correct horse", users.ErrCredentials},
		{"control character", "al\x00ex", "correct horse", users.ErrCredentials},
		{"not UTF-8", "al\xffex", "correct horse", users.ErrCredentials},
		{"long user name", strings.Repeat("a", 256), "correct horse", users.ErrCredentials},
		{"long password", "alex", strings.Repeat("a", users.MaxPassword+1), users.ErrCredentials},
		{"account without a password", "nopass", "", users.ErrCredentials},
		{"account without a password, some password", "nopass", "correct horse", users.ErrCredentials},
		{"locked, right password", "locked", "correct horse", users.ErrLocked},
		{"locked, wrong password: nothing is told", "locked", "wrong", users.ErrCredentials},
	} {
		t.Run(c.name, func(t *testing.T) {
			user, err := p.Authenticate(t.Context(), store, c.username, c.password, nil)
			if !errors.Is(err, c.want) || (err == nil) != (user != nil) || (err == nil && user.ID != "1") {
				t.Fatalf("user %v, error %v, want %v", user, err, c.want)
			}
		})
	}
	if _, err := p.Authenticate(t.Context(), store, "broken", "correct horse", nil); err == nil || errors.Is(err, users.ErrCredentials) {
		t.Fatalf("a broken store was answered with %v", err)
	}
}

func TestUnknownUserCostsWhatAWrongPasswordCosts(t *testing.T) {
	p := newPasswords(t, 1)
	phc, err := p.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	store := people{"alex": {ID: "1", Password: phc}, "nopass": {ID: "2"}}
	// Argon2id's memory is its cost, and unlike time it doesn't depend on what
	// else the machine does.
	cost := func(username string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = p.Authenticate(t.Context(), store, username, "wrong password", nil)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	wrong := cost("alex")
	if wrong < 19<<20 {
		t.Fatalf("a wrong password cost %d bytes: it was not hashed", wrong)
	}
	for _, name := range []string{"nobody", "nopass", "\x00", ""} {
		if got := cost(name); got < wrong*9/10 || got > wrong*11/10 {
			t.Errorf("%q cost %d bytes, a wrong password %d", name, got, wrong)
		}
	}
}

func TestWeakHashIsReplacedAtSignIn(t *testing.T) {
	p := newPasswords(t, 1)
	weak, err := argon2id.CreateHash("correct horse", &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	store := people{"alex": {ID: "1", Password: weak}}
	if _, err := p.Authenticate(t.Context(), store, "alex", "wrong", nil); !errors.Is(err, users.ErrCredentials) || store["alex"].Password != weak {
		t.Fatalf("a wrong password changed the hash, or gave %v", err)
	}
	if _, err := p.Authenticate(t.Context(), store, "alex", "correct horse", nil); err != nil {
		t.Fatal(err)
	}
	if store["alex"].Password == weak {
		t.Fatal("the weak hash is still there")
	}
	if _, err := p.Authenticate(t.Context(), store, "alex", "correct horse", nil); err != nil {
		t.Fatalf("after the upgrade: %v", err)
	}
}

func TestWeakPasswordsAreNotAcceptable(t *testing.T) {
	p := newPasswords(t, 1)
	for _, password := range []string{"", "short", "1234567", "пароль", strings.Repeat("x", users.MaxPassword+1)} {
		if err := users.Acceptable("alex", password); !errors.Is(err, users.ErrWeak) {
			t.Errorf("%d characters: %v", len(password), err)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", users.MaxPassword+1)} {
		if _, err := p.Hash(t.Context(), password); !errors.Is(err, users.ErrWeak) {
			t.Errorf("%d characters were hashed: %v", len(password), err)
		}
	}
	if err := users.Acceptable("alex", "пароль12"); err != nil {
		t.Error(err)
	}
	// Eight characters, however many bytes they take.
	if phc, err := p.Hash(t.Context(), "пароль12"); err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("%q, %v", phc, err)
	}
}

func TestCommonPasswordsAreNotAcceptable(t *testing.T) {
	for password, want := range map[string]error{
		"password": users.ErrCommon, "12345678": users.ErrCommon, "PassWord": users.ErrCommon, "dalmatio": users.ErrCommon, // the first and the last
		"        ": users.ErrCommon, "aaaaaaaa": users.ErrCommon, "aAaAaAaAaA": users.ErrCommon, "ääääääää": users.ErrCommon,
		strings.Repeat("😀", 8): users.ErrCommon, strings.Repeat("\xff", 8): users.ErrCommon,
		"bea.example": users.ErrNamesake, " BEA.example ": users.ErrNamesake, "ｂｅａ.example": users.ErrNamesake,
		"bea.example1": nil, "aaaaaaab": nil, "password\n12345678": nil, "\npassword": nil, "password ": nil, "passwor\u0501": nil, "ababababab": nil,
		"correct horse": nil,
	} {
		if err := users.Acceptable("Bea.Example", password); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", password, err, want)
		}
		if err := users.Acceptable("", password); errors.Is(err, users.ErrNamesake) {
			t.Errorf("%q is the name of nobody", password)
		}
	}
}

// OWASP ASVS 5.0 6.2.4 asks for the 3,000 commonest that the rule on the length
// allows.
func TestListOfCommonPasswordsIsWhatIsLookedUp(t *testing.T) {
	text, err := os.ReadFile("common/passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(list) != 10_000 {
		t.Errorf("the list has %d passwords", len(list))
	}
	for _, password := range list {
		if err := users.Acceptable("alex", password); !errors.Is(err, users.ErrCommon) {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func TestKeyTellsNamesApart(t *testing.T) {
	for _, same := range [][2]string{{"Alex", "alex"}, {"ＡＬＥＸ", "alex"}, {"Zoë", "zoë"}} {
		a, errA := users.Key(same[0])
		b, errB := users.Key(same[1])
		if errA != nil || errB != nil || a != b {
			t.Errorf("%q and %q: %q, %q, %v, %v", same[0], same[1], a, b, errA, errB)
		}
	}
	a, _ := users.Key("alex")
	for _, other := range []string{"alex1", "аlex"} { // the second begins with a Cyrillic letter
		if b, err := users.Key(other); err == nil && a == b {
			t.Errorf("%q is taken for alex", other)
		}
	}
	for _, bad := range []string{"", " ", "a b", "a\nb", "a\x7f", strings.Repeat("ä", 200)} {
		if key, err := users.Key(bad); !errors.Is(err, users.ErrCredentials) {
			t.Errorf("%q became %q, %v", bad, key, err)
		}
	}
}

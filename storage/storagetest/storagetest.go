// Package storagetest says, as tests, what a store must do, whatever database
// it keeps things in. It knows the interfaces and none of their makers.
package storagetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// ServerStore is all that a store does for one authorization server.
type ServerStore interface {
	oauth.Store
	sessions.Store
	keys.Store
	Clients(ctx context.Context) ([]clients.Client, error)
	InsertClient(ctx context.Context, client *clients.Client) error
	SyncStatic(ctx context.Context, static []clients.Client) (int, error)
	Sweep(ctx context.Context, history time.Duration, limit int) (sessions.Swept, error)
}

// RealmStore is all that a store does for one realm.
type RealmStore interface {
	users.Store
	sessions.RealmStore
	sessions.EntryStore
	sessions.PastStore
	sessions.NoticeStore
	sessions.UseStore
	keys.RootStore
	throttle.Store
	Record(ctx context.Context, event audit.Event) error
	Events(ctx context.Context, filter audit.Filter) ([]audit.Event, error)
	SweepAudit(ctx context.Context, before time.Time, limit int) (int, error)
	Sweep(ctx context.Context, history time.Duration, limit int) (sessions.Swept, error)
}

// Handles open views of one database, with Lifetimes.
type Handles struct {
	Server          func(name, realm string) ServerStore
	Realm           func(name string) RealmStore
	Deliveries      deliveries.Store
	OnDelivery      func(func())
	Thorough        func(name string) RealmStore // a Realm where logouts end offline sessions too
	ErrClientExists error
	Letters         mail.Store
}

// Open makes an empty database for one test and returns two independent handles
// of it, as two server processes have them.
type Open func(t *testing.T, now func() time.Time) (a, b Handles)

// Lifetimes are those that the views of Handles must have.
var Lifetimes = sessions.Lifetimes{
	LoginIdle:       time.Hour,
	LoginAbsolute:   12 * time.Hour,
	SessionIdle:     30 * time.Minute,
	SessionAbsolute: 8 * time.Hour,
	OfflineIdle:     24 * time.Hour,
	OfflineAbsolute: 30 * 24 * time.Hour,
	RefreshGrace:    10 * time.Second,
}

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(*world)
	}{
		{"UserIsReadAsWritten", userIsReadAsWritten},
		{"UserNameIsUniqueInItsRealm", userNameIsUnique},
		{"UserNotFound", userNotFound},
		{"UsersAreListedByKey", usersAreListedByKey},
		{"PasswordIsUpgradedOnlyFromTheOldHash", passwordUpgrade},
		{"UnlockedUserCanSignIn", unlockedUser},
		{"RootsAreKeptByOwner", rootsByOwner},
		{"SigningKeysAreInsertedAllOrNone", signingKeys},
		{"LoginIsReadAsWritten", loginIsReadAsWritten},
		{"LoginCookieIsRotated", cookieRotation},
		{"SignInRefusals", signInRefusals},
		{"SignInOfAnotherUserEndsTheLogin", signInOfAnother},
		{"LoginDiesByTime", loginDiesByTime},
		{"LastUseGoesForwardOnly", touchForward},
		{"ClientIsReadAsWritten", clientIsReadAsWritten},
		{"ClientNumbersAreUniqueInTheRealm", clientNumbers},
		{"StaticClientsFollowTheFile", staticClients},
		{"DeletedClientIsDeadAtOnce", deletedClient},
		{"RevivedClientInheritsNothing", revivedClient},
		{"DeadClientsSessionStaysDead", deadClientsSession},
		{"ManySessionsOfAClientEnd", manySessionsOfClient},
		{"AssertionIsUsedOnce", assertionOnce},
		{"RevokedTokenIsRemembered", revokedToken},
		{"GrantIsReadAsWritten", grantIsReadAsWritten},
		{"TimesComeBackInUTC", timesInUTC},
		{"GrantRefusals", grantRefusals},
		{"NonceIsUsedOnce", nonceOnce},
		{"ConsentIsReplacedAndWithdrawn", consentReplaced},
		{"SessionGoesOn", sessionGoesOn},
		{"SessionThatIsOverDoesNotComeBack", overDoesNotComeBack},
		{"OldestOfManyGrantsEnds", oldestGrantEnds},
		{"CodeIsRedeemedOnce", redeemOnce},
		{"CodeRefusals", redeemRefusals},
		{"RefreshGenerations", generations},
		{"GrantLiveness", liveness},
		{"SessionList", sessionList},
		{"SessionListAgreesWithLiveness", listAgrees},
		{"EndingRefusals", endingRefusals},
		{"EndedSessionIsDead", endedSession},
		{"NoReturnThroughTheBackDoor", backDoor},
		{"LastRefreshableGrantEndsItsSession", lastGrant},
		{"EndedLoginDetachesOffline", loginDetaches},
		{"EndedUserHasNothingLeft", userEnds},
		{"UsesOfALogin", usesOfALogin},
		{"LogoutEndsOfflineSessionsWhereTheRealmSaysSo", logoutEndsOffline},
		{"AskerOfALogoutIsAudited", askerIsAudited},
		{"FailedEffectLeavesNothing", failedEffect},
		{"ServersShareNothing", serversShareNothing},
		{"RealmsShareNothing", realmsShareNothing},
		{"ListIsReadInPages", listPages},
		{"AttributesAreMerged", attributesMerge},
		{"AttributesRefusals", attributesRefusals},
		{"AttributesOfServersShareNothing", attributesShareNothing},
		{"AttributesFromSources", attributesFromSources},
		{"AttributesFromSourcesOfTheUser", attributesOfUser},
		{"AttributesFromSourcesShareNothing", sourcesShareNothing},
		{"RaceOfSourcesAndChanges", raceSourcesAndChanges},
		{"RaceOfSourcesToBegin", raceToBegin},
		{"EndedAllOfUser", endingAllOfUser},
		{"RaceOfAttributes", raceAttributes},
		{"RaceOfAttributesAndEnding", raceAttributesAndEnding},
		{"RaceOfGrantsAndEndingAll", raceGrantsAndEndingAll},
		{"SweeperMakesEndingsOfWhatIsOver", sweepExpires},
		{"SweeperIsNotLateWithoutOfflineGrant", sweepWithoutOffline},
		{"SweeperSparesWhatIsNeeded", sweepSpares},
		{"SweeperRemovesExpiredMarks", sweepMarks},
		{"RenewalsDontGrow", sweepRenewals},
		{"RaceOfSweepers", raceSweepers},
		{"ActsAreAudited", actsAreAudited},
		{"UndoneActsAreNotAudited", undoneActs},
		{"RefusedSignInsAreCounted", refusedSignIns},
		{"AuditEventsAreChosen", auditFilter},
		{"AuditEventsAreReadInPages", auditPages},
		{"AuditEventsAreSwept", auditSweep},
		{"RaceOfRefusedSignIns", raceRefusedSignIns},
		{"EntriesShowWhatLives", entriesShow},
		{"EntriesAgreeWithLiveness", entriesAgree},
		{"EntriesAreFiltered", entriesFilters},
		{"EntriesArePagedThroughTiesAndChanges", entriesPaged},
		{"EntriesOfAClientAreInItsOrder", entriesOfClient},
		{"EntriesOfABrowser", entriesOfBrowser},
		{"AccountsAreFoundByTheirBeginnings", accountsFound},
		{"LookAtANamedUserNamesHim", namedLooks},
		{"ClientsAreOfferedByName", clientChoices},
		{"SelectionEnds", selectionEnds},
		{"AdministratorLocksAndUnlocks", adminLocks},
		{"OnlyAdministratorsAdminister", onlyAdmins},
		{"EntryIsEnded", entryEnds},
		{"EndOfAllButTheCurrentEntry", endAllBut},
		{"EntriesOfRealmsShareNothing", entriesShareNothing},
		{"DeviceIsNamed", deviceNamed},
		{"NotesAreAudited", notesAudited},
		{"PastShowsWhatEnded", pastShows},
		{"PastIsPagedThroughTies", pastPaged},
		{"PastIsTheUsersOwn", pastOwn},
		{"PermissionsAreListedAndWithdrawn", permissionsWithdrawn},
		{"EndOfAllButOneLogin", endAllButLogin},
		{"PasswordIsChangedByOneOfTwo", passwordChanged},
		{"MarkFollowsWhatLives", markFollows},
		{"RaceToRedeem", raceRedeem},
		{"RaceToAdvance", raceAdvance},
		{"RaceForOneSession", raceTwins},
		{"RaceForOneNonce", raceNonce},
		{"RaceForOneAssertion", raceAssertion},
		{"RaceOfGrantsAndLock", raceGrantsAndLock},
		{"RaceOfGrantsAndLogout", raceGrantsAndLogout},
		{"RaceOfRefreshAndEnding", raceRefreshAndEnding},
		{"RaceOfEverything", raceEverything},
		{"RaceToRegister", raceRegister},
		{"EndingsAreTold", endingsAreTold},
		{"EndingsByTimeAreTold", endingsByTimeAreTold},
		{"EndingsOfClientsAreTold", endingsOfClientsAreTold},
		{"DeliveryIsASnapshot", deliverySnapshot},
		{"UndoneEndingIsNotTold", undoneEndingIsNotTold},
		{"DeliveriesAreAnnounced", deliveriesAnnounced},
		{"DeliveriesAreClaimedOldestFirst", claimsOldestFirst},
		{"ClaimIsHandedOverWithItsLease", claimHandedOver},
		{"ClaimIsReleased", claimReleased},
		{"ClientAtItsBoundIsSkipped", claimBound},
		{"DeliveriesOfServersShareNothing", deliveriesShareNothing},
		{"DeliveriesAreSwept", deliveriesSwept},
		{"RaceOfEndingsToTell", raceEndingsToTell},
		{"RaceToClaim", raceToClaim},
		{"AttemptsAreCountedAndBlocked", attemptsBlocked},
		{"WaitsDoubleUpToTheWindow", attemptsWaits},
		{"AttemptIsCountedInAllOrNone", attemptsAllOrNone},
		{"AttemptIsGivenBack", attemptsGivenBack},
		{"CountersExpireAndAreSwept", attemptsExpire},
		{"CountersOfRealmsShareNothing", attemptsOfRealms},
		{"RaceOfAttempts", raceAttempts},
		{"RaceOfAttemptsAtTwoCounters", raceAttemptsCrossing},

		// Notices of sign-ins from elsewhere, and mails about them.
		{"NewDevicesAndNetworksAreNoticed", newIsNoticed},
		{"UnmarkedSignInIsNotNoticed", unmarkedSignIn},
		{"ReauthenticationIsNoticedByItsNetwork", reauthenticationNoticed},
		{"KnownDevicesAreBounded", knownBounded},
		{"NoticeIsAnswered", noticeAnswered},
		{"NoticeAnsweredNoEndsItsLogin", noticeEndsLogin},
		{"NoticesOfEndedLoginsAreShownForAWhile", noticesOfEnded},
		{"NoticesAreSwept", noticesSwept},
		{"NoticesOfRealmsAndUsersShareNothing", noticesShareNothing},
		{"SignInAgainSharesTheQuestion", signInAgainSharesQuestion},
		{"DroppedMarkSharesTheQuestion", droppedMarkSharesQuestion},
		{"NewBrowserInANetworkSharesTheQuestion", networkSharesQuestion},
		{"FloodKeepsOpenQuestions", floodKeepsQuestions},
		{"RaceToShareAQuestion", raceToShareQuestion},
		{"LettersAreClaimedAndSettled", lettersSettled},
		{"MailsOfAUserAreBounded", mailsBounded},
		{"RaceOfSignInsFromOneDevice", raceOneDevice},
		{"RaceOfSignInsFromManyDevices", raceManyDevices},
		{"RaceForLetters", raceLetters},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{T: t, time: time.Date(2031, 5, 6, 7, 8, 9, 123_000_000, time.UTC)}
			w.a, w.b = open(t, w.now)
			w.realm, w.as = w.a.Realm("staff"), w.a.Server("myAS", "staff")
			test.run(w)
		})
	}
}

// world is one test: a realm, an authorization server and a clock.
type world struct {
	*testing.T
	a, b  Handles
	realm RealmStore
	as    ServerStore

	mu   sync.Mutex
	time time.Time
	made int
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// id makes ids that never repeat in a test.
func (w *world) id(prefix string, length int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	return fmt.Sprintf("%s%0*d", prefix, length-len(prefix), w.made)
}

func hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// is fails unless err is want; nil wants no error.
func (w *world) is(err, want error, what string, args ...any) {
	w.Helper()
	if (want == nil) != (err == nil) || !errors.Is(err, want) {
		w.Errorf("%s: error %v, want %v", fmt.Sprintf(what, args...), err, want)
	}
}

func (w *world) user(id string) *users.User {
	w.Helper()
	return w.userIn(w.realm, id)
}

func (w *world) userIn(realm RealmStore, id string) *users.User {
	w.Helper()
	u := &users.User{ID: id, Username: "name-" + id, Password: "phc", Salt: []byte("salt of " + id), CreatedAt: w.now()}
	w.ok(realm.InsertUser(w.Context(), u))
	return u
}

func (w *world) login(user string) *sessions.Login {
	w.Helper()
	return w.loginIn(w.realm, user, sessions.SignIn{})
}

func (w *world) loginIn(realm RealmStore, user string, in sessions.SignIn) *sessions.Login {
	w.Helper()
	login, err := realm.SignIn(w.Context(), w.signIn(user, in), sessions.Ending{Reason: sessions.ReasonOtherUser})
	w.ok(err)
	return login
}

func (w *world) signIn(user string, in sessions.SignIn) sessions.SignIn {
	in.UserID, in.AuthTime = user, w.now()
	in.ExpiresAt = w.now().Add(Lifetimes.LoginAbsolute)
	if in.CookieHash == nil {
		in.CookieHash = hash(w.id("cookie", 20))
	}
	return in
}

func (w *world) client(id string) *clients.Client {
	w.Helper()
	return w.clientAt(w.as, id)
}

func (w *world) clientAt(as ServerStore, id string) *clients.Client {
	w.Helper()
	c := &clients.Client{Metadata: clients.Metadata{ClientID: id, ClientName: "Client " + id}}
	w.ok(as.InsertClient(w.Context(), c))
	return c
}

// kind is what a grant is for.
type kind int

const (
	plain   kind = iota // no refresh token
	refresh             // refresh token
	offline             // refresh token and offline_access
)

// newGrant is a grant of the login that may be inserted.
func (w *world) newGrant(login *sessions.Login, client string, k kind) oauth.NewGrant {
	scopes := []string{"openid"}
	if k == offline {
		scopes = append(scopes, "offline_access")
	}
	return oauth.NewGrant{
		Grant: oauth.Grant{
			ID: w.id("grant", 22), ClientID: client, UserID: login.UserID,
			Scopes: scopes, Resources: []string{"https://issuer.example"}, AuthTime: login.AuthTime,
			CodeHash: hash("code"), CodeExpires: w.now().Add(time.Minute), Secret: hash("secret"),
			Refreshable: k != plain, Offline: k == offline, CreatedAt: w.now(),
		},
		LoginID: login.ID, Subject: login.UserID, Client: "Client " + client, Consented: w.now(),
		Session: sessions.Session{ID: w.id("session", 40), Origin: sessions.OriginBrowser},
	}
}

// authorize inserts a grant, with its code not yet redeemed.
func (w *world) authorize(login *sessions.Login, client string, k kind) (grant string, session *sessions.Session) {
	w.Helper()
	g := w.newGrant(login, client, k)
	session, err := w.as.InsertGrant(w.Context(), g)
	w.ok(err)
	return g.Grant.ID, session
}

// grant inserts a grant and redeems its code.
func (w *world) grant(login *sessions.Login, client string, k kind) (grant string, session *sessions.Session) {
	w.Helper()
	grant, session = w.authorize(login, client, k)
	w.redeem(grant)
	return grant, session
}

func (w *world) redeem(grant string) {
	w.Helper()
	if ok, err := w.as.Redeem(w.Context(), grant, w.now()); err != nil || !ok {
		w.Fatalf("redeeming %s: %v, %v", grant, ok, err)
	}
}

func (w *world) state(grant string) *oauth.State {
	w.Helper()
	state, err := w.as.State(w.Context(), grant, "")
	w.ok(err)
	return state
}

func (w *world) live(grant string, want bool, what string, args ...any) {
	w.Helper()
	if got := w.state(grant).Live; got != want {
		w.Errorf("%s: live %v, want %v", fmt.Sprintf(what, args...), got, want)
	}
}

// listed are the ids of the user's sessions, in the list's order.
func (w *world) listed(user string) string {
	w.Helper()
	list, err := w.as.Sessions(w.Context(), sessions.Filter{UserID: user})
	w.ok(err)
	var ids []string
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, " ")
}

func (w *world) end(target sessions.Target, ending sessions.Ending) (int, error) {
	ending.At = w.now()
	if target.Login != "" || target.User != "" {
		return w.realm.End(w.Context(), target, ending)
	}
	return w.as.End(w.Context(), target, ending)
}

// mustEnd ends target and wants that n sessions ended.
func (w *world) mustEnd(target sessions.Target, ending sessions.Ending, n int) {
	w.Helper()
	got, err := w.end(target, ending)
	w.ok(err)
	if got != n {
		w.Errorf("ending %+v: %d sessions ended, want %d", target, got, n)
	}
}

// logout is an ending by the user.
func logout() sessions.Ending {
	return sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "alex"}, Reason: sessions.ReasonLogout}
}

// begin makes the usual cast: a user, a client, and the user's login.
func (w *world) begin() *sessions.Login {
	w.Helper()
	w.user("alex")
	w.client("album")
	return w.login("alex")
}

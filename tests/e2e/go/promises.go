// The promises as a Go application sees them, with the library of docs/clients/go.md against a real node.
//
// promises ADDRESS [CA CERT KEY]. Prints `kill` when the node is to be killed and started again, and goes on at the next line of
// standard input. The same steps as promises.py.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	pb "evermesh/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const patience = 20 * time.Second // nothing here waits for anything, so this only bounds a failure

var run = fmt.Sprint(time.Now().UnixNano()) // two runs against one mesh do not meet

func check(holds bool, what ...interface{}) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

func must(err error) { check(err == nil, err) }

func eventually(what string, holds func() bool) {
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		check(time.Now().Before(end), "not in time: ", what)
	}
}

func event(key string) *pb.Event { return &pb.Event{Site: "shop", Type: "t", Key: key} }

func publish(node pb.EventReplicationClient, keys ...string) *pb.PublishResponse {
	var events []*pb.Event
	for _, key := range keys {
		events = append(events, event(key))
	}
	done, err := Publish(context.Background(), node, pb.Assurance_ASSURANCE_STORED, patience, events...)
	must(err)
	return done
}

type heard struct {
	mutex    sync.Mutex
	keys     []string
	missed   [][]string
	tries    int
	bad      string
	current  chan struct{}
	ended    chan error
	close    context.CancelFunc
	listener *Subscription
}

func hear(node pb.EventReplicationClient, listener *Subscription, bad string) *heard {
	h := &heard{bad: bad, current: make(chan struct{}), ended: make(chan error, 1), listener: listener}
	listener.Node, listener.Sites = node, []string{"shop"}
	listener.Apply = func(event *pb.Event) error {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		if event.Key == h.bad {
			h.tries++
			return errors.New("cannot apply " + event.Key + strings.Repeat("ß€", 400)) // longer than a reason may be
		}
		h.keys = append(h.keys, event.Key)
		return nil
	}
	listener.Missed = func(sites []string) {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		h.missed = append(h.missed, sites)
	}
	var once sync.Once
	listener.CaughtUp = func() { once.Do(func() { close(h.current) }) }
	ctx, cancel := context.WithCancel(context.Background())
	h.close = cancel
	go func() { h.ended <- listener.Run(ctx) }()
	select {
	case <-h.current:
	case <-time.After(patience):
		panic("did not catch up")
	}
	return h
}

func (h *heard) is(keys ...string) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return reflect.DeepEqual(h.keys, keys)
}

func (h *heard) last() string {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if len(h.keys) == 0 {
		return ""
	}
	return h.keys[len(h.keys)-1]
}

func publishing(node pb.EventReplicationClient) {
	ctx := context.Background()
	for until := pb.Assurance_ASSURANCE_ACCEPTED; until <= pb.Assurance_ASSURANCE_APPLIED; until++ {
		done, err := Publish(ctx, node, until, patience, event(until.String()))
		must(err)
		check(done.Assured == until, done)
	}
	// The same id is one event (P5).
	once := event("once")
	once.Id = "once-" + run
	var twice [2]*pb.PublishResponse
	for n := range twice {
		twice[n], _ = Publish(ctx, node, pb.Assurance_ASSURANCE_STORED, patience, once)
	}
	check(twice[1].Results[0].GetTaken().Duplicate, twice)
	token := twice[0].Results[0].GetTaken().FenceToken
	fence, err := node.Fence(ctx, &pb.FenceRequest{FenceToken: token, ThisNodeOnly: true})
	must(err)
	check(fence.Done, fence)

	// Pipelined, with counters: what a producer handed in before is not taken again.
	produce := func(counters ...uint64) (highest, through uint64) {
		stream, err := node.PublishStream(ctx)
		must(err)
		open := &pb.PublishStreamOpen{Producer: "import-" + run}
		must(stream.Send(&pb.PublishStreamRequest{Message: &pb.PublishStreamRequest_Open{Open: open}}))
		for _, first := range counters {
			events := &pb.PublishStreamEvents{FirstCounter: first, Events: []*pb.Event{event("n"), event("m")}}
			must(stream.Send(&pb.PublishStreamRequest{Message: &pb.PublishStreamRequest_Events{Events: events}}))
		}
		must(stream.CloseSend())
		for {
			answer, err := stream.Recv()
			if err != nil {
				return
			}
			if opened := answer.GetOpened(); opened != nil {
				highest = opened.HighestCounter
			}
			if assured := answer.GetAssured(); assured != nil {
				through = assured.ThroughCounter
			}
		}
	}
	highest, through := produce(1, 3, 5)
	check(highest == 0 && through == 6, highest, through)
	highest, through = produce(5, 7)
	check(highest == 6 && through == 8, highest, through)
}

func limits(node pb.EventReplicationClient) {
	ctx := context.Background()
	limits, err := node.GetLimits(ctx, &pb.GetLimitsRequest{})
	must(err)
	check(limits.KeyBytesMax == 1024 && limits.PublishEventsMax == 4096, limits)
	large := event("k")
	large.Data = make([]byte, limits.EventBytesMax)
	bad := []*pb.Event{event(strings.Repeat("k", 1025)), large, {Type: "t"}, {Site: "shop"}}
	done, err := node.Publish(ctx, &pb.PublishRequest{Events: append([]*pb.Event{event("good")}, bad...)})
	must(err)
	check(done.Results[0].GetTaken() != nil, done)
	for n, reason := range []string{"KEY_TOO_LONG", "EVENT_TOO_LARGE", "SITE_MISSING", "TYPE_MISSING"} {
		check(done.Results[n+1].GetRefused().GetReason() == reason, done.Results[n+1])
	}
	check(done.Results[1].GetRefused().Field == "events[1].key", done)
	refused := func(request *pb.PublishRequest) (string, string) {
		var trailer metadata.MD
		_, err := node.Publish(ctx, request, grpc.Trailer(&trailer))
		return status.Code(err).String(), strings.Join(trailer.Get("evermesh-reason"), ",")
	}
	code, reason := refused(&pb.PublishRequest{})
	check(code == "InvalidArgument" && reason == "EVENTS_MISSING", code, reason)
	large.Data = make([]byte, 2<<20)
	code, _ = refused(&pb.PublishRequest{Events: []*pb.Event{large}})
	check(code == "OutOfRange" || code == "ResourceExhausted", code)
	publish(node, "still here")
}

// A deadline and a cancellation end a call, and nothing else.
func ending(node pb.EventReplicationClient) {
	open := func(ctx context.Context) pb.EventReplication_SubscribeClient {
		stream, err := node.Subscribe(ctx)
		must(err)
		open := &pb.SubscribeRequest_Open{Open: &pb.SubscribeOpen{Sites: []string{"shop"}}}
		must(stream.Send(&pb.SubscribeRequest{Message: open}))
		return stream
	}
	end := func(stream pb.EventReplication_SubscribeClient) string {
		for {
			if _, err := stream.Recv(); err != nil {
				return status.Code(err).String()
			}
		}
	}
	late, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	check(end(open(late)) == "DeadlineExceeded", "deadline")
	cancel()
	ctx, cancel := context.WithCancel(context.Background())
	stream := open(ctx)
	_, err := stream.Recv()
	must(err)
	cancel()
	check(end(stream) == "Canceled", "cancel")
}

func caching(node pb.EventReplicationClient) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	database := map[string]interface{}{"product:1": 0, "other": 0}
	load := func(key string) interface{} { return database[key] }
	cache := NewCache(ctx, node, "shop")
	<-cache.Ready
	eventually("a lease", cache.Subscription.IsFresh)
	drop := func(drops *pb.Invalidation) {
		done, err := Invalidate(ctx, node, "shop", pb.Assurance_ASSURANCE_APPLIED, drops)
		must(err)
		check(done.Assured == pb.Assurance_ASSURANCE_APPLIED, done)
	}
	for price := 1; price < 30; price++ {
		cache.Get("product:1", load)
		cache.Get("other", load)
		database["product:1"] = price
		drop(&pb.Invalidation{Keys: []string{"product:1"}})
		check(cache.Get("product:1", load) == price, "stale")
	}
	check(len(cache.kept) == 2, "what did not change is kept")
	drop(&pb.Invalidation{Prefixes: []string{"oth"}})
	check(len(cache.kept) == 1, "the prefix is dropped")
}

func rejecting(node pb.EventReplicationClient) {
	h := hear(node, &Subscription{}, "bad")
	publish(node, "good", "bad", "after")
	eventually("the dead letter", func() bool { return h.is("good", "after") })
	check(h.tries == 5 && reflect.DeepEqual(h.missed, [][]string{{"shop"}}), h.tries, h.missed)
	h.close()
}

// What was rejected last is not behind the place that is kept, though CaughtUp was told after it (P1).
func rejectingOverAKill(node pb.EventReplicationClient, kill func()) {
	before := hear(node, &Subscription{}, "")
	before.close()
	<-before.ended
	place := before.listener.Token
	check(place != nil, "there is a place to go on from before anything was applied")
	publish(node, "once bad")
	h := hear(node, &Subscription{Token: place}, "once bad")
	tried := func() bool {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		return h.tries > 0
	}
	eventually("the first try", tried)
	kill()
	h.mutex.Lock()
	h.bad = ""
	h.mutex.Unlock()
	eventually("the second", func() bool { return h.is("once bad") })
	check(len(h.missed) == 0, h.missed)
	h.close()
}

func subscribing(node pb.EventReplicationClient, kill func()) {
	live := hear(node, &Subscription{}, "")
	named := hear(node, &Subscription{Name: "go-" + run}, "")
	check(reflect.DeepEqual(named.missed, [][]string{{"shop"}}), "a name that nobody knows begins with missed")
	publish(node, "a", "b")
	eventually("a and b", func() bool { return live.is("a", "b") && named.is("a", "b") })

	kill()
	publish(node, "c")
	eventually("c", func() bool { return live.last() == "c" && named.last() == "c" })
	check(live.is("a", "b", "c") && len(live.missed) == 0, live.keys, live.missed)

	newer := hear(node, &Subscription{Name: "go-" + run}, "")
	check(<-named.ended == nil, "the older one is told that it was taken over")
	publish(node, "d")
	eventually("d, by the newer one", func() bool { return newer.last() == "d" })
	check(len(newer.missed) == 0 && named.last() == "c", newer.missed)
	newer.close()
	live.close()

	// A place that this node does not know: missed, before anything else.
	stranger := hear(node, &Subscription{Token: &pb.ResumeToken{Run: make([]byte, 32), Offset: 7}}, "")
	check(reflect.DeepEqual(stranger.missed, [][]string{{"shop"}}), stranger.missed)
	stranger.close()
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	node, connection, err := Connect(os.Args[1], os.Args[2:]...)
	must(err)
	defer connection.Close()
	publishing(node)
	limits(node)
	ending(node)
	caching(node)
	rejecting(node)
	kill := func() {
		fmt.Println("kill")
		check(input.Scan(), "no answer")
	}
	rejectingOverAKill(node, kill)
	// Last: the durable name stays behind, and everybody would wait for it.
	subscribing(node, kill)
	fmt.Println("every promise held")
}

// go-redis against a running cluster: plain, pipelined, in cluster mode, and through the death of a node.
// main PORT…: prints a line for each step; after "ready" it writes until a line on stdin says that a node was killed, and goes
// on for a while. It exits with 1 at the first thing that is not as it should be.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const keys = 300

// go-redis reads the map of the cluster anew every ten seconds, and on no error of a connection: until then commands on the dead
// node's slots fail.
const patience = 30 * time.Second

var ctx = context.Background()

func must[T comparable](what string, got T, err error, want T) {
	if err != nil || got != want {
		fmt.Fprintf(os.Stderr, "%s: got %v (%v), want %v\n", what, got, err, want)
		os.Exit(1)
	}
}

func plain(one, other *redis.Client) {
	reply, err := one.Set(ctx, "go:greeting", "hello", 1000*time.Second).Result()
	must("SET", reply, err, "OK")
	reply, err = other.Get(ctx, "go:greeting").Result()
	must("GET", reply, err, "hello")
	length, err := one.Append(ctx, "go:greeting", " there").Result()
	must("APPEND", length, err, 11)
	count, err := one.Del(ctx, "go:greeting").Result()
	must("DEL", count, err, 1)
	_, err = other.Get(ctx, "go:greeting").Result()
	must("GET of a deleted key", err == redis.Nil, nil, true)
	fmt.Println("plain")

	_, err = one.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for n := 0; n < keys; n++ {
			pipe.Set(ctx, fmt.Sprintf("go:p:%d", n), n, 0)
		}
		return nil
	})
	must("pipeline", true, err, true)
	for n := 0; n < keys; n++ {
		got, err := other.Get(ctx, fmt.Sprintf("go:p:%d", n)).Int()
		must("GET after the pipeline", got, err, n)
	}
	replies, err := one.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, "go:m", "1", 0)
		pipe.Append(ctx, "go:m", "2")
		pipe.Get(ctx, "go:m")
		return nil
	})
	must("MULTI", len(replies), err, 3)
	last, err := replies[2].(*redis.StringCmd).Result()
	must("GET in MULTI", last, err, "12")
	fmt.Println("pipelined")
}

func clusterMode(many *redis.ClusterClient, one *redis.Client) {
	for n := 0; n < keys; n++ {
		reply, err := many.Set(ctx, fmt.Sprintf("go:c:%d", n), n, 0).Result()
		must("SET in cluster mode", reply, err, "OK")
		got, err := many.Get(ctx, fmt.Sprintf("go:c:%d", n)).Int()
		must("GET in cluster mode", got, err, n)
	}
	whole, err := one.DBSize(ctx).Result()
	must("DBSIZE", err == nil, err, true)
	sum, err := many.DBSize(ctx).Result()
	must("DBSIZE, added up", sum, err, whole)
	fmt.Println("cluster mode")
}

func throughKill(many *redis.ClusterClient) {
	var killed atomic.Int64
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		killed.Store(time.Now().UnixNano())
	}()
	written := map[string]string{}
	errors, row := 0, 0
	fmt.Println("ready")
	// A thousand in a row reach every node.
	for n := 0; killed.Load() == 0 || row < 1000; n++ {
		must("recovered in time", killed.Load() == 0 || time.Since(time.Unix(0, killed.Load())) < patience, nil, true)
		row++
		key, value := fmt.Sprintf("go:k:%d", n%1000), fmt.Sprint(n)
		if err := many.Set(ctx, key, value, 0).Err(); err != nil {
			errors, row = errors+1, 0
			delete(written, key) // its outcome is unknown
		} else {
			written[key] = value
		}
	}
	for key, value := range written {
		got, err := many.Get(ctx, key).Result()
		must("GET after the death", got, err, value)
	}
	must("it wrote", len(written) > 100, nil, true)
	fmt.Printf("survived: %d errors\n", errors)
}

func main() {
	address := func(port string) string { return "127.0.0.1:" + port }
	one := redis.NewClient(&redis.Options{Addr: address(os.Args[1])})
	other := redis.NewClient(&redis.Options{Addr: address(os.Args[2])})
	plain(one, other)
	many := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{address(os.Args[1])}})
	clusterMode(many, one)
	throughKill(many)
}

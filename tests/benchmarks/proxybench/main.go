// What the gateway is measured with and against: an upstream that answers like an engine, the reference proxy
// (httputil.ReverseProxy that rewrites the same JSON), and a load generator. Standard library only.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: proxybench upstream|proxy|load ...")
	}
	modes := map[string]func([]string){"upstream": upstream, "proxy": proxy, "load": load}
	mode, known := modes[os.Args[1]]
	if !known {
		log.Fatalf("unknown mode %q", os.Args[1])
	}
	mode(os.Args[2:])
}

// upstream answers chats at once, whole or as a stream of `chunks` events.
func upstream(arguments []string) {
	flags := flag.NewFlagSet("upstream", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	chunks := flags.Int("chunks", 100, "events of a stream")
	check(flags.Parse(arguments))
	handler := func(writer http.ResponseWriter, request *http.Request) {
		var body struct {
			Model  string `json:"model"`
			Stream bool   `json:"stream"`
		}
		check(json.NewDecoder(request.Body).Decode(&body))
		if body.Stream {
			stream(writer, body.Model, *chunks)
			return
		}
		writer.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(writer, `{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1700000000,"model":%q,"choices":[{"index":0,`+
			`"message":{"role":"assistant","content":"{\"vendor\": \"Wonka Ltd\", \"date\": \"2024-01-02\", \"total\": \"12.50\"}",`+
			`"tool_calls":[]},"logprobs":null,"finish_reason":"stop","stop_reason":null}],`+
			`"usage":{"prompt_tokens":91,"total_tokens":132,"completion_tokens":41},"prompt_logprobs":null}`, body.Model)
	}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(handler)))
}

func stream(writer http.ResponseWriter, model string, chunks int) {
	writer.Header().Set("Content-Type", "text/event-stream")
	flusher := writer.(http.Flusher)
	for number := 0; number < chunks; number++ {
		fmt.Fprintf(writer, `data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":%q,`+
			`"choices":[{"index":0,"delta":{"content":" token%d"},"logprobs":null,"finish_reason":null}]}`+"\n\n", model, number)
		flusher.Flush()
	}
	fmt.Fprintf(writer, `data: {"id":"x","object":"chat.completion.chunk","model":%q,"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":%d}}`+"\n\n", model, chunks)
	io.WriteString(writer, "data: [DONE]\n\n")
}

// proxy is the reference: it changes the model's name in the request and in the answer, and nothing else.
func proxy(arguments []string) {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	to := flags.String("to", "", "URL of the upstream")
	check(flags.Parse(arguments))
	target, err := url.Parse(*to)
	check(err)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 1024
	reverse := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.Body, request.Out.ContentLength = rewritten(request.In.Body, "engine.model.0123456789abcdef")
		},
		ModifyResponse: func(response *http.Response) error {
			response.Body, response.ContentLength = rewritten(response.Body, "finance/vendor")
			response.Header.Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
			return nil
		},
	}
	log.Fatal(http.ListenAndServe(*listen, reverse))
}

func rewritten(body io.ReadCloser, model string) (io.ReadCloser, int64) {
	defer body.Close()
	raw, err := io.ReadAll(body)
	check(err)
	var content map[string]any
	check(json.Unmarshal(raw, &content))
	content["model"] = model
	changed, err := json.Marshal(content)
	check(err)
	return io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
}

type figures struct {
	Requests int     `json:"requests"`
	Failures int     `json:"failures"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

// load sends chats over `connections` connections for `seconds`, at `rate` per second if that is not 0, and prints figures as JSON.
func load(arguments []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	address := flags.String("url", "", "base URL")
	connections := flags.Int("connections", 32, "at once")
	seconds := flags.Float64("seconds", 5, "how long")
	rate := flags.Float64("rate", 0, "requests a second; 0: as many as possible")
	token := flags.String("token", "none", "bearer token")
	model := flags.String("model", "finance/vendor", "what is asked for")
	streaming := flags.Bool("stream", false, "ask for streams")
	check(flags.Parse(arguments))
	body := []byte(fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":`+
		`"from Wonka Ltd; total 12.50 EUR; dated 2024-01-02; no R1234"}],"temperature":0,"max_tokens":64}`, *model, *streaming))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *connections, MaxConnsPerHost: *connections, DisableCompression: true}}
	began := time.Now()
	due := make(chan time.Time, 100000)
	go clock(due, began, *seconds, *rate)
	var waiting sync.WaitGroup
	results := make(chan []float64, *connections)
	failures := make(chan int, *connections)
	for range *connections {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			var times []float64
			failed := 0
			for start := range due {
				if *rate == 0 {
					start = time.Now()
				}
				if once(client, *address, *token, body) {
					// From when it was due: a generator that waits for slow answers would hide them.
					times = append(times, float64(time.Since(start).Microseconds())/1000)
				} else {
					failed++
				}
			}
			results <- times
			failures <- failed
		}()
	}
	waiting.Wait()
	elapsed := time.Since(began).Seconds()
	close(results)
	close(failures)
	report(results, failures, elapsed)
}

func clock(due chan<- time.Time, began time.Time, seconds, rate float64) {
	defer close(due)
	for number := 0; time.Since(began).Seconds() < seconds; number++ {
		if rate == 0 {
			due <- time.Time{}
			if len(due) > 1000 {
				time.Sleep(time.Millisecond)
			}
			continue
		}
		at := began.Add(time.Duration(float64(number) / rate * float64(time.Second)))
		time.Sleep(time.Until(at))
		due <- at
	}
}

func once(client *http.Client, address, token string, body []byte) bool {
	request, err := http.NewRequest("POST", address+"/v1/chat/completions", bytes.NewReader(body))
	check(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == 200
}

func report(results <-chan []float64, failures <-chan int, elapsed float64) {
	var times []float64
	for part := range results {
		times = append(times, part...)
	}
	failed := 0
	for part := range failures {
		failed += part
	}
	sort.Float64s(times)
	out := figures{Requests: len(times), Failures: failed, Seconds: elapsed}
	if len(times) > 0 {
		out.P50, out.P99 = times[len(times)/2], times[len(times)*99/100]
	}
	check(json.NewEncoder(os.Stdout).Encode(out))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
